"""`--help`: what a command does, its groups and their choices, its config. Hydra's own takes twice as long to say less."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf


def show(name: str, conf: Path, overrides: list[str]) -> None:
    """Print the help of a command with the given overrides composed in."""
    with initialize_config_dir(str(conf), version_base="1.3", job_name=name):
        cfg = compose(name, overrides, return_hydra_config=True)
    chosen = {group: choice for group, choice in cfg.hydra.runtime.choices.items() if "/" not in group}
    print(f"usage: {name}.py [group=choice ...] [key=value ...]   e.g. {_example(conf / f'{name}.yaml')}\n")
    if groups := [group for group in chosen if (conf / group).is_dir()]:
        print("groups (* is chosen):")
        for group in groups:
            choices = sorted(path.stem for path in (conf / group).glob("*.yaml"))
            print(f"  {group:<12}" + "  ".join(f"*{c}" if c in str(chosen[group]) else c for c in choices))
    keys = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    print("\nkeys:\n\n" + OmegaConf.to_yaml(keys))
    print("also: -m sweeps over comma-separated values; --cfg job prints the config; --info explains it (Hydra's flags)")


def _example(root: Path) -> str:
    return root.read_text().splitlines()[0].removeprefix("# ")

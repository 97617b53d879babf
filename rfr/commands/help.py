"""`--help`: prints the groups of a command with their choices, and its config.

Importing Hydra and composing a config takes 0.3 s, so the text without overrides lies beside the configs, with their checksum.
`python -m rfr.commands.help` writes it anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from rfr.utils.conf_folder import CONF

COMMANDS = ("collect", "train", "generate", "evaluate")


def print_help(name: str, overrides: list[str]) -> None:
    """Print the help of a command; with overrides, the choices and the config that follow from them."""
    stored = _path(name).read_text() if _path(name).is_file() else ""
    checksum, _, text = stored.partition("\n")
    print(text if not overrides and checksum == _checksum() else _compose(name, overrides))


def store_help() -> None:
    """Write the help of all commands without overrides."""
    for name in COMMANDS:
        text = _compose(name, [])
        path = _path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{_checksum()}\n{text}")


def _path(name: str) -> Path:
    return CONF / "_help" / f"{name}.txt"


def _checksum() -> str:
    """SHA-256 of all configs."""
    digest = hashlib.sha256()
    for path in sorted(CONF.rglob("*.yaml")):
        digest.update(f"{path.relative_to(CONF).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _compose(name: str, overrides: list[str]) -> str:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base="1.3", job_name=name):
        cfg = compose(name, overrides, return_hydra_config=True)
    chosen = {group: choice for group, choice in cfg.hydra.runtime.choices.items() if "/" not in group}
    example = (CONF / f"{name}.yaml").read_text().splitlines()[0].removeprefix("# ")
    lines = [f"usage: {name}.py [group=choice ...] [key=value ...]   e.g. {example}\n"]
    if groups := [group for group in chosen if (CONF / group).is_dir()]:
        lines.append("groups (* is chosen):")
        for group in groups:
            choices = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            lines.append(f"  {group:<12}" + "  ".join(f"*{c}" if c in str(chosen[group]) else c for c in choices))
    keys = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    lines.append("\nkeys:\n\n" + OmegaConf.to_yaml(keys))
    lines.append("also: -m sweeps over comma-separated values; --cfg job prints the config; --info explains it (Hydra's flags)")
    return "\n".join(lines)


if __name__ == "__main__":
    store_help()

"""A resolved config: its identity, what it may instantiate, the checks that need no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rfr.data.cache import key_of
from rfr.errors import UserError

ALLOWED = ("rfr.", "torch.", "pytorch_lightning.", "transformers.", "wandb.")
# Where a run lives and who hears of it says nothing about what it is.
NOT_IDENTITY = ("data_dir", "runs_dir", "name", "group", "resume", "logger")


def resolve(cfg: DictConfig) -> DictConfig:
    """The config with every interpolation replaced and every target checked.

    Raises:
        UserError: a `_target_` outside the allow-list: configs of run folders travel between people.
    """
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    for target in _targets(plain):
        if not target.startswith(ALLOWED):
            raise UserError(f"_target_: {target} is refused: only {', '.join(ALLOWED)} may be named in a config")
    return OmegaConf.create(plain)


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [str(node["_target_"])] if "_target_" in node else []
        return here + [target for child in node.values() for target in _targets(child)]
    return [target for child in node for target in _targets(child)] if isinstance(node, list) else []


def identity(cfg: DictConfig) -> str:
    """A short hash of what a run is: its config without paths and loggers."""
    plain = OmegaConf.to_container(cfg)
    assert isinstance(plain, dict)
    return key_of({key: value for key, value in plain.items() if key not in NOT_IDENTITY})[:10]


def run_folder(cfg: DictConfig) -> Path:
    """`runs/<group>/<name>`, the name being the identity where none is given."""
    return Path(cfg.runs_dir) / (cfg.group or "") / (cfg.name or identity(cfg))


def load(run_dir: Path) -> DictConfig:
    """The config of a run folder.

    Raises:
        UserError: it is no run folder.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run_dir} is no run folder (it has no config.yaml): give the folder that train.py printed")
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, DictConfig)
    return resolve(cfg)

"""A run's folder: its name, and the config in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rfr.config import load_yaml, plain
from rfr.errors import UserError
from rfr.utils.files import write_atomically
from rfr.utils.hashing import key_of

CONFIG = "config.yaml"  # in the folder of every run
# Keys that do not change what is trained.
NOT_HASHED = (
    "data_dir",
    "runs_dir",
    "name",
    "group",
    "resume",
    "logger",
    "look",
    "plan",
    "metric",
    "find_lr",
    "preview",
    "derived",
    "threads",
)


def run_folder(cfg: DictConfig) -> Path:
    """`runs/<group>/<name>`, the name being the identity where none is given."""
    return Path(cfg.runs_dir) / (cfg.group or "") / (cfg.name or identity(cfg))


def identity(cfg: DictConfig) -> str:
    """A short hash of what a run is: its config without loggers, and paths as seen from the data and run folders."""
    config = plain(cfg)
    hashed = {key: value for key, value in config.items() if key not in NOT_HASHED}
    return key_of(_relative(hashed, (config["data_dir"], config["runs_dir"])))[:10]


def _relative(node: Any, folders: tuple[str, ...]) -> Any:
    if isinstance(node, dict):
        return {key: _relative(value, folders) for key, value in node.items()}
    if isinstance(node, str):
        return next((node.removeprefix(folder) for folder in folders if node.startswith(f"{folder}/")), node)
    return node


def write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Write a run's resolved config into its folder."""
    write_atomically(run_dir / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def load(run_dir: Path) -> DictConfig:
    """The config of a run folder.

    Raises:
        UserError: the folder is no run folder.
    """
    path = run_dir / CONFIG
    if not path.is_file():
        raise UserError(f"{run_dir} is no run folder (it has no {CONFIG}): give the folder that train.py printed")
    cfg = load_yaml(path)
    if "_target_" not in cfg.objective:
        raise UserError(f"{run_dir} was made by an older rfr, whose objectives were described otherwise: start it anew")
    return cfg

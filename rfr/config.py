"""A resolved config: its identity, what it may instantiate, the checks that need no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rfr.errors import UserError
from rfr.utils.cache import key_of
from rfr.utils.typecheck import checked as check_values

CONFIG = "config.yaml"  # in the folder of every run
ALLOWED = ("rfr.", "torch.", "pytorch_lightning.", "transformers.", "wandb.")
# Where a run lives and who hears of it says nothing about what it is.
NOT_IDENTITY = (
    "data_dir", "runs_dir", "name", "group", "resume", "logger", "look", "plan", "metric", "find_lr", "preview", "derived"
)  # fmt: skip


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as a dictionary, interpolations replaced, nothing missing."""
    container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def read(path: Path) -> DictConfig:
    """A config file, resolved and checked.

    Raises:
        UserError: it is damaged, or `resolve`'s.
    """
    try:
        cfg = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(cfg, DictConfig) or "objective" not in cfg:
        raise UserError(f"{path} is no config of a run: it names no objective")
    return resolve(cfg)


def resolve(cfg: DictConfig) -> DictConfig:
    """The config with every interpolation replaced and every target checked.

    Raises:
        UserError: a `_target_` outside the allow-list: configs of run folders travel between people.
    """
    resolved = plain(cfg)
    _check_targets(resolved)
    return OmegaConf.create(resolved)


def resolve_run(cfg: DictConfig) -> DictConfig:
    """As `resolve`, of a run: `derived` then lists the keys whose values follow others', by which runs are not told apart."""
    resolved = resolve(cfg)
    resolved.derived = _interpolated(cfg)
    return resolved


def _interpolated(cfg: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in map(str, cfg):
        if OmegaConf.is_interpolation(cfg, name):
            keys.append(prefix + name)
        elif isinstance(child := cfg._get_node(name), DictConfig) and not child._is_none() and not child._is_missing():
            keys += _interpolated(child, f"{prefix}{name}.")
    return keys


def checked(cfg: DictConfig, schema: type, *, calls: bool = True) -> DictConfig:
    """A resolved config with every value held against what it configures; a whole number that stands for a text is one.

    Args:
        schema: of the command's own keys; groups' keys are held against the parameters of their `_target_`.
        calls: False: only the former, for which no target need be imported.

    Raises:
        UserError: a value is of another type or out of its range; the message names the key.
    """
    return OmegaConf.create(check_values(plain(cfg), schema, calls=calls))


def resolve_part(cfg: DictConfig, key: str) -> DictConfig:
    """As `resolve`, of one key, whatever else is missing."""
    part = OmegaConf.to_container(cfg[key], resolve=True, throw_on_missing=True)
    assert isinstance(part, dict)
    _check_targets(part)
    return OmegaConf.create(part)


def _check_targets(node: Any) -> None:
    for target in _targets(node):
        if not target.startswith(ALLOWED):
            raise UserError(f"_target_: {target} is refused: only {', '.join(ALLOWED)} may be named in a config")


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [str(node["_target_"])] if "_target_" in node else []
        return here + [target for child in node.values() for target in _targets(child)]
    return [target for child in node for target in _targets(child)] if isinstance(node, list) else []


def identity(cfg: DictConfig) -> str:
    """A short hash of what a run is: its config without loggers, and paths as seen from the data and run folders."""
    config = plain(cfg)
    kept = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    return key_of(_relative(kept, (config["data_dir"], config["runs_dir"])))[:10]


def _relative(node: Any, folders: tuple[str, ...]) -> Any:
    if isinstance(node, dict):
        return {key: _relative(value, folders) for key, value in node.items()}
    if isinstance(node, str):
        return next((node.removeprefix(folder) for folder in folders if node.startswith(f"{folder}/")), node)
    return node


def corpus_name(cfg: DictConfig) -> str:
    """A name that no other corpus has: the path of its store, or for a generated corpus a hash of its settings."""
    corpus = OmegaConf.to_container(cfg.corpus, resolve=True)
    assert isinstance(corpus, dict)
    return str(corpus["path"]) if "path" in corpus else f"demo-{key_of(corpus)[:8]}"


def run_folder(cfg: DictConfig) -> Path:
    """`runs/<group>/<name>`, the name being the identity where none is given."""
    return Path(cfg.runs_dir) / (cfg.group or "") / (cfg.name or identity(cfg))


def load(run_dir: Path) -> DictConfig:
    """The config of a run folder.

    Raises:
        UserError: it is no run folder.
    """
    path = run_dir / CONFIG
    if not path.is_file():
        raise UserError(f"{run_dir} is no run folder (it has no {CONFIG}): give the folder that train.py printed")
    cfg = read(path)
    if "_target_" not in cfg.objective:
        raise UserError(f"{run_dir} was made by an older rfr, whose objectives were described otherwise: start it anew")
    return cfg

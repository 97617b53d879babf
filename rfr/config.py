"""Configs: load them, resolve interpolations, check values and targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rfr.errors import UserError
from rfr.utils.typecheck import checked

ALLOWED = ("rfr.", "torch.", "pytorch_lightning.", "transformers.", "wandb.")


def _times(one: Any, other: Any) -> int:
    """`${times:${a},${b}}` in a config; what is wrong with a and b is said where they are checked."""
    return one * other if type(one) is int and type(other) is int else 1


def _warmup(steps: Any) -> int:
    """`${warmup:${steps}}`: a tenth of a run's optimizer steps, at least 1 where there are several, and at most 20."""
    return max(0, min(20, max(1, steps // 10), steps - 1)) if type(steps) is int else 0


OmegaConf.register_new_resolver("times", _times, replace=True)
OmegaConf.register_new_resolver("warmup", _warmup, replace=True)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as a dictionary, interpolations replaced, nothing missing."""
    container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def load_yaml(path: Path) -> DictConfig:
    """A config file, resolved and checked.

    Raises:
        UserError: the file is damaged, or `resolve` refuses it.
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
        UserError: a `_target_` is not on the allow-list: configs of run folders travel between people.
    """
    resolved = plain(cfg)
    for target in _targets(resolved):
        if not target.startswith(ALLOWED):
            raise UserError(f"_target_: {target} is refused: only {', '.join(ALLOWED)} may be named in a config")
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


def check_types(cfg: DictConfig, schema: type, *, calls: bool = True) -> DictConfig:
    """A resolved config with every value held against what it configures; a whole number that stands for a text is one.

    Args:
        schema: the types of the command's own keys; the keys of groups are checked against the parameters of their `_target_`.
        calls: False: only the command's own keys are checked, so that no target is imported.

    Raises:
        UserError: a value is of another type or out of its range; the message names the key.
    """
    return OmegaConf.create(checked(plain(cfg), schema, calls=calls))


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [str(node["_target_"])] if "_target_" in node else []
        return here + [target for child in node.values() for target in _targets(child)]
    return [target for child in node for target in _targets(child)] if isinstance(node, list) else []

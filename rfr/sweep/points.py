"""Composes the points of a sweep before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rfr.config import resolve_run
from rfr.errors import UserError, as_user_error
from rfr.utils.exits import in_one_line


@dataclass(frozen=True, kw_only=True)
class Point:
    """One job of a sweep: its resolved config, and what sets it apart from the others, by key."""

    cfg: DictConfig
    varied: dict[str, str]

    @property
    def overrides_text(self) -> str:
        return overrides_text(self.varied)


def overrides_text(varied: Mapping[str, str]) -> str:
    """The overrides that make a point differ, as a user would type them."""
    return " ".join(f"{key}={value}" for key, value in varied.items()) or "the only point"


def is_grid(master: DictConfig) -> bool:
    """Whether all points are known beforehand; a search finds them as it goes."""
    return master.hydra.sweeper._target_ == f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"


def points(master: DictConfig, group: str) -> list[Point]:
    """All points of a grid. Of a search, points that take every choice, and both ends of every interval, once.

    Args:
        master: the config of a multirun, with its `hydra` part.
        group: the group of runs whose config names none.

    Raises:
        UserError: there are no points, or a point can't be composed.
    """
    loader = GlobalHydra.instance().config_loader()
    params = OmegaConf.to_container(master.hydra.sweeper.get("params") or OmegaConf.create({}))
    assert isinstance(params, dict)
    arguments = [*(f"{key!s}={value!s}" for key, value in params.items()), *master.hydra.overrides.task]
    with as_user_error("the sweep can't be divided into points", ValueError):
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        lists = BasicSweeper.split_arguments(overrides, None)[0] if is_grid(master) else _each_value_once(overrides)
    if not lists:
        raise UserError("the sweep has no points: give each swept key one value or more")
    many = {key for override in overrides if override.is_sweep_override() for key in [override.get_key_element()]}
    composed = []
    for point in lists:
        varied = {key: value for key, _, value in (text.partition("=") for text in point) if key in many}
        try:
            composed.append(Point(cfg=_compose(master, point, group), varied=varied))
        except (HydraException, OmegaConfBaseException, UserError) as error:
            raise UserError(f"{overrides_text(varied)}: {in_one_line(error)}") from error
    return composed


def _compose(master: DictConfig, overrides: Sequence[str], group: str) -> DictConfig:
    cfg = GlobalHydra.instance().config_loader().load_sweep_config(master, list(overrides))
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    own.group = own.group or group
    return resolve_run(own)


def _each_value_once(overrides: Sequence[Override]) -> list[list[str]]:
    values = {override.get_key_element(): _values(override) for override in overrides}
    first = {key: of_key[0] for key, of_key in values.items()}
    chosen = [first, *({**first, key: value} for key, of_key in values.items() for value in of_key[1:])]
    return [[f"{key}={value}" for key, value in point.items()] for point in chosen]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if isinstance(interval := override.value(), IntervalSweep):
        return [str(interval.start), str(interval.end)]
    return list(override.sweep_string_iterator())

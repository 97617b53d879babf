"""Every config value is checked before work begins: a wrong one is a line that names its key."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rfr import config
from rfr.commands import collect, evaluate, generate
from rfr.train.recipe import Recipe
from rfr.utils.exits import remedy
from tests.conftest import ROOT

CHECKS: dict[str, Callable[[DictConfig], Any]] = {
    "collect": lambda cfg: instantiate(config.check_types(config.resolve(cfg), collect.CollectConfig)),
    "train": lambda cfg: Recipe.of(config.resolve(cfg)),
    "generate": generate.checked,
    "evaluate": evaluate.report_of,
}
CONF = ROOT / "conf"
# What each command's groups can be; some groups lie in others.
GROUPS = {
    "collect": {"source": "source", "mode": "mode"},
    "generate": {name: name for name in ("judge_rule", "score", "precision")},
    "evaluate": {name: name for name in ("report", "corpus", "preprocess", "packing", "precision", "judge_rule", "score")}
    | {f"reward@rewards.{name}": "reward" for name in ("thread_rank",)},
    "train": {name: name for name in ("model", "corpus", "preprocess", "packing", "reward", "objective", "optimizer", "schedule",
                                      "strategy", "precision", "trainer", "logger", "experiment", "judge_rule", "score",
                                      "rollouts")}
    | {"+objective/baseline": "objective/baseline", "reward@reward.inner": "reward"},
}  # fmt: skip
BASE = {"generate": ["model.weights=m"], "evaluate": [], "collect": [], "train": []}
OTHERS_MODES = {"collect": ("policy", "karma", "compare", "dashboard"),
                "evaluate": ("once", "watch", "refresh", "backfill", "purge", "status", "export")}  # fmt: skip
WRONG: tuple[Any, ...] = ("abc", [1, 2], True, None, math.nan, math.inf, -1, -0.5, 10**30, 1e300, {"a": 1})


def _configs(command: str, choices: bool) -> Iterator[tuple[list[str], DictConfig]]:
    """The command's config; with choices, also that under every choice of every group."""
    yield [], compose(command, BASE[command])
    if not choices:
        return
    for group, folder in GROUPS[command].items():
        for choice in sorted(path.stem for path in (CONF / folder).glob("*.yaml")):
            if group == "mode" and choice in OTHERS_MODES[command]:
                continue
            more = ["objective=rwr"] if "baseline" in group else ["reward=tiers"] if "inner" in group else []
            if command == "train" and choice in ("own", "rloo", "truth"):
                more = ["rollouts=own", *(["judge=j"] if choice != "truth" else [])]
            overrides = [*BASE[command], *more, f"{group}={choice}"]
            yield overrides, compose(command, overrides)


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    for name in node:
        if not str(name).startswith("_") and not (prefix == "" and name == "hydra"):
            key = f"{prefix}{name}"
            child = node._get_node(name)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
                yield from _leaves(child, f"{key}.")
            else:
                yield key


def _keys(command: str, choices: bool) -> dict[str, DictConfig]:
    """Every distinct key of the defaults, or of what any choice brings in, with a config that has it."""
    configs: dict[str, DictConfig] = {}
    for _, cfg in _configs(command, choices):
        for key in _leaves(cfg):
            configs.setdefault(key, cfg)
    return configs


def _outcome(command: str, cfg: DictConfig, key: str, value: Any) -> str | None:
    """What is wrong with what became of this value, or None."""
    cfg = cfg.copy()
    OmegaConf.update(cfg, key, value, merge=False)
    try:
        CHECKS[command](cfg)
    except Exception as error:
        message = remedy(error) or f"{type(error).__name__}: {error}"
        mended = remedy(error) is not None and key in message and len(message.splitlines()) == 1
        return None if mended else f"{command} {key}={value!r}: {message}"
    return None


def _tried(choices: bool, share: float) -> tuple[int, int, list[str]]:
    """How many keys there are, how many values were tried, and what went wrong."""
    rng, keys, values, wrong = random.Random(20261128), 0, 0, []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for command in CHECKS:
            for key, cfg in _keys(command, choices).items():
                keys += 1
                for value in WRONG:
                    if rng.random() < share:
                        values += 1
                        if problem := _outcome(command, cfg, key, value):
                            wrong.append(problem)
    return keys, values, wrong


def test_a_tenth_of_all_wrong_values_at_the_defaults_end_in_a_line_that_names_it() -> None:
    keys, values, wrong = _tried(choices=False, share=0.1)
    assert keys >= 150
    assert values >= 150
    assert wrong == []


@pytest.mark.slow
def test_a_quarter_of_all_wrong_values_at_every_key_end_in_a_line_that_names_it() -> None:
    keys, values, wrong = _tried(choices=True, share=0.25)
    assert keys >= 240
    assert values >= 0.2 * keys * len(WRONG)
    assert wrong == []

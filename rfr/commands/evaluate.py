"""The evaluate command: makes the report that `report=` names."""

from __future__ import annotations

from typing import Any, TypedDict

from hydra.utils import instantiate
from omegaconf import DictConfig

from rfr.config import check_types, resolve
from rfr.ranges import Block, Count, Whole
from rfr.train.settings import Precision
from rfr.utils.quiet import silence_libraries
from rfr.utils.typecheck import Called


class EvaluatedModel(TypedDict):
    """The policy that is evaluated."""

    weights: str | None
    block_size: Block | None


class EvaluateConfig(TypedDict):
    """`conf/evaluate.yaml`. The report's keys refer to all others, so it comes last."""

    data_dir: str
    runs_dir: str
    runs: list[str]
    out: str | None
    micro_batch: Count
    threads: Count | None
    wandb_project: str | None
    judge: str | list[str] | None
    gold: str | list[str] | None
    against: list[str]
    stories: Whole
    precision: Precision
    model: EvaluatedModel
    corpus: Called
    preprocess: Called
    rewards: dict[str, Called]
    ranking: Called
    sampling: Called
    judge_rule: Called
    score: Called
    report: Called


def evaluate(cfg: DictConfig) -> None:
    """Make the report.

    Raises:
        UserError: a value is wrong, or the report can't be made.
    """
    silence_libraries()
    report_of(cfg).run()


def report_of(cfg: DictConfig) -> Any:
    """The report that a composed config names, every value checked before a model or a store is opened.

    Raises:
        UserError: a value is wrong.
    """
    return instantiate(check_types(resolve(cfg), EvaluateConfig).report)

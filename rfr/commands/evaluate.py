"""The evaluate command: what its report says is done."""

from __future__ import annotations

from typing import TypedDict

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rfr.commands.compare import Compare
from rfr.commands.dashboard import Dashboard
from rfr.commands.generate import GivenModel
from rfr.commands.karma_report import Karma
from rfr.commands.policy_report import Policy
from rfr.config import checked, resolve, resolve_part
from rfr.errors import UserError
from rfr.loggers.loggers import quiet
from rfr.ranges import Count, Whole
from rfr.train.settings import Precision
from rfr.utils.typecheck import Called


def require_evaluation(cfg: DictConfig) -> None:
    """Every value checked, before a model or a store is opened.

    Raises:
        ValueError: one is wrong.
    """
    cfg = cfg.copy()
    if OmegaConf.is_missing(cfg.model, "weights"):
        cfg.model.weights = "given later"
    if cfg.model.block_size is None:  # the model's own
        cfg.model.block_size = 1024
    cfg = checked(resolve(cfg), Evaluate)
    for part in ("corpus", "preprocess", "ranking", "sampling", "rewards"):
        instantiate(cfg[part])


class Evaluate(TypedDict):
    """evaluate.py's own keys."""

    data_dir: str
    runs_dir: str
    runs: list[str]
    out: str | None
    micro_batch: Count
    wandb_project: str | None
    judge: str | None
    against: list[str]
    stories: Whole
    precision: Precision
    model: GivenModel
    mode: Called
    corpus: Called
    preprocess: Called
    rewards: dict[str, Called]
    ranking: Called
    sampling: Called


def evaluate(cfg: DictConfig) -> None:
    """What the mode says.

    Raises:
        UserError: it is one of collect.py's, or a value is wrong.
    """
    quiet()
    mode = instantiate(resolve_part(cfg, "mode"))
    if not isinstance(mode, (Policy, Karma, Compare, Dashboard)):
        raise UserError(
            f"mode={HydraConfig.get().runtime.choices['mode']} is collect.py's: give mode=policy, karma, compare or dashboard"
        )
    require_evaluation(cfg)
    mode.run(cfg)

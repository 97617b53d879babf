"""The recipe of a run: its resolved config as objects, made once. No function below it sees a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from torch.optim import Optimizer
from transformers import PretrainedConfig

from rfr.config import check_types, plain
from rfr.data.corpus import Corpus
from rfr.data.prepare import Preprocess
from rfr.evaluate.judge_rules import Mean
from rfr.evaluate.score import JudgeScore, Score
from rfr.generation.sampling import Sampling
from rfr.objective.training_data import Objective
from rfr.optimizer.schedule import Schedule
from rfr.reward.base import Reward
from rfr.rollouts.rollout_settings import Rollouts
from rfr.strategy.layout import Layout
from rfr.strategy.ranks import world_size
from rfr.train.learnable import require_learnable, require_whole_rounds
from rfr.train.settings import ModelSettings, TrainConfig, TrainerSettings


@dataclass(frozen=True, kw_only=True)
class Stories:
    """How many stories to sample, and how."""

    count: int
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a run's config says. Building it checks every value, so it is built before a store is read or a file written."""

    config: dict[str, Any]  # the resolved config: what config.yaml and the loggers hold
    data_dir: Path
    runs_dir: Path
    seed: int
    group: str | None  # of the sweep that the run belongs to
    threads: int | None  # of each process; None: not decided yet
    precision: str  # as asked for: `auto` depends on the machine
    model: ModelSettings
    random_config: partial[PretrainedConfig]  # from the size of the vocabulary and other settings
    corpus: Corpus
    preprocess: Preprocess
    reward: Reward
    objective: Objective
    score: Score  # of own stories
    rollouts: Rollouts | None  # None: people's stories are learned from
    make_optimizer: partial[Optimizer]  # from parameter groups
    weight_decay: float
    schedule: Schedule
    make_layout: Callable[[str, Path], Layout]  # from the precision and the run folder
    make_loggers: list[Callable[..., Logger]]
    trainer: TrainerSettings
    samples: Stories  # at each validation
    evaluation: Stories  # after training

    @property
    def learning_rate(self) -> float:
        """The peak rate, which the schedule multiplies."""
        return float(self.make_optimizer.keywords["lr"])

    def with_threads(self, threads: int) -> Recipe:
        """The recipe of a run for which it is decided; its config says so, too."""
        return replace(self, threads=threads, config={**self.config, "threads": threads})

    @classmethod
    def of(cls, cfg: DictConfig) -> Recipe:
        """Build it from a resolved config.

        Raises:
            UserError: a value is wrong, alone or beside the others; the message names its key.
        """
        cfg = check_types(cfg, TrainConfig)
        objective, rollouts = instantiate(cfg.objective), instantiate(cfg.get("rollouts"))
        score: Score = instantiate(cfg.score) if "score" in cfg else JudgeScore(None, Mean())
        require_learnable(objective, rollouts, score, cfg.model.weights)
        schedule, trainer = instantiate(cfg.schedule), TrainerSettings(**cfg.trainer)
        require_whole_rounds(trainer, rollouts)
        if rollouts is not None:
            trainer = replace(trainer, accumulate=rollouts.accumulate(trainer.micro_batch, world_size(trainer.ranks)))
        schedule(0, trainer.max_steps)  # raises where the warm-up is too long
        optimizer = instantiate(cfg.optimizer)
        model = ModelSettings(**{field.name: cfg.model[field.name] for field in fields(ModelSettings)})
        keywords = {name: value for name, value in optimizer.keywords.items() if name != "weight_decay"}
        return cls(
            config=plain(cfg),
            data_dir=Path(cfg.data_dir),
            runs_dir=Path(cfg.runs_dir),
            seed=cfg.seed,
            group=cfg.group,
            threads=cfg.get("threads"),
            precision=cfg.precision,
            model=model,
            random_config=instantiate(cfg.model.random),
            corpus=instantiate(cfg.corpus),
            preprocess=instantiate(cfg.preprocess),
            reward=instantiate(cfg.reward),
            objective=objective,
            score=score,
            rollouts=rollouts,
            make_optimizer=partial(optimizer.func, *optimizer.args, **keywords),
            weight_decay=cfg.optimizer.weight_decay,
            schedule=schedule,
            make_layout=instantiate(cfg.strategy),
            make_loggers=list(instantiate(cfg.logger).values()),
            trainer=trainer,
            samples=Stories(count=cfg.samples.prompts, sampling=instantiate(cfg.samples.sampling)),
            evaluation=Stories(count=cfg.evaluation.stories, sampling=instantiate(cfg.evaluation.sampling)),
        )

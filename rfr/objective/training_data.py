"""The objectives: each turns prepared stories and a reward into training data. `conf/objective/` names one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Lt

from rfr.data.batches import BatchSource, PairRows, WeightedRows
from rfr.data.control_tokens import control_ids
from rfr.data.pack.rows import PackedRows
from rfr.data.preference_pairs import Pairing
from rfr.data.prepare import Prepared, PreparedSplit
from rfr.objective.baselines import Baseline, advantages
from rfr.objective.losses import Loss
from rfr.objective.quantiles import Quantiles
from rfr.objective.raw_weights import WeightFunction
from rfr.objective.story_weights import story_weights
from rfr.reward.base import Reward, rewards_by_thread

LogProbabilities = Callable[[PackedRows], np.ndarray]  # of each piece's targets, summed


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Rows to learn from and to validate on, and what is known of them before the first step."""

    train: BatchSource
    validation: BatchSource
    shown: dict[str, str]  # for people
    figures: dict[str, float]  # to be logged
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # whose distributions are to be logged

    def with_reference(self, log_probabilities: LogProbabilities) -> TrainingData:
        """The same, pairs knowing how likely their stories were before training."""
        train, validation = self.train, self.validation
        assert isinstance(train, PairRows), "only pairs are compared with what was likely before"
        assert isinstance(validation, PairRows)
        return replace(
            self,
            train=train.with_reference(log_probabilities(train.rows)),
            validation=validation.with_reference(log_probabilities(validation.rows)),
        )


@dataclass(frozen=True, kw_only=True)
class WeightedObjective:
    """Every story weighs something; see `conf/_base/weighted.yaml`."""

    name: str
    loss: Loss
    weight: WeightFunction
    baseline: Baseline | None
    clip: Annotated[float, Gt(1)] | None
    ess_floor: Annotated[float, Ge(0), Lt(1)]
    control: Quantiles | None = None

    def training_data(self, prepared: Prepared, reward: Reward) -> TrainingData:
        split, train, validation = prepared.train, prepared.train.rows, prepared.validation.rows
        prefer, arrays = np.zeros(len(split.stories)), {}
        if self.weight.uses_rewards or self.control is not None:
            reward.fit(split.threads)
            arrays["rewards"] = story_rewards(reward, split)
        if self.weight.uses_rewards:
            prefer = advantages(arrays["rewards"], split.stories, self.baseline)
        weights, health = story_weights(self.weight, prefer, split.target_tokens, self.clip, self.ess_floor)
        if arrays:
            arrays["weights"] = weights
        if self.control is not None:
            tell = partial(_with_control_tokens, self.control, np.array(control_ids(prepared.tokenizer)), arrays["rewards"])
            train, validation = tell(train, arrays["rewards"]), tell(validation, story_rewards(reward, prepared.validation))
        return TrainingData(
            train=WeightedRows(train, weights),
            validation=WeightedRows(validation),
            shown=health.shown(),
            arrays=arrays,
            figures={f"weights/{name}": value for name, value in health.as_dict().items()},
        )


def _with_control_tokens(
    control: Quantiles, ids: np.ndarray, training: np.ndarray, rows: PackedRows, rewards: np.ndarray
) -> PackedRows:
    """The rows, each story behind the token of the quantile that it lies in."""
    return replace(rows, controls=ids[control(rewards, training)])


@dataclass(frozen=True, kw_only=True)
class PairwiseObjective:
    """Stories of a thread are compared with each other; see `conf/_base/pairwise.yaml`."""

    control: ClassVar[None] = None  # stories are told apart by their rewards, not by control tokens
    name: str
    loss: Loss
    pairing: Pairing

    def training_data(self, prepared: Prepared, reward: Reward) -> TrainingData:
        reward.fit(prepared.train.threads)
        rewards = {name: story_rewards(reward, getattr(prepared, name)) for name in ("train", "validation")}
        rows = {name: self._rows(getattr(prepared, name), of_split) for name, of_split in rewards.items()}
        counts = {name: len(pair_rows.comparisons.chosen) for name, pair_rows in rows.items()}
        pair_counts = (
            f"{counts['train']:,}, of {len(rows['train'].comparisons.story):,} stories; {counts['validation']:,} held out"
        )
        return TrainingData(
            **rows,
            shown={"rows": f"{len(rows['train']):,}", "pairs to compare": pair_counts},
            arrays={"rewards": rewards["train"]},
            figures={f"pairs/{name}": float(count) for name, count in counts.items()},
        )

    def _rows(self, split: PreparedSplit, rewards: np.ndarray) -> PairRows:
        return PairRows(split.rows, self.pairing(rewards, split.stories.column("thread_id"), split.target_tokens))


def story_rewards(reward: Reward, split: PreparedSplit) -> np.ndarray:
    """One reward per story of the split, float64, in the order of its stories."""
    each = zip(split.threads, rewards_by_thread(reward, split.threads), strict=True)
    by_reply = {story.reply_id: value for thread, values in each for story, value in zip(thread, values, strict=True)}
    return np.array([by_reply[story.reply_id] for story in split.stories], dtype=np.float64)

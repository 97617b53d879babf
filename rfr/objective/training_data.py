"""The objectives: each turns prepared stories and a reward into training data. `conf/objective/` names one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Lt

from rfr.data.batches import AdvantageRows, BatchSource, PairRows, WeightedRows
from rfr.data.control_tokens import control_ids
from rfr.data.pack.rows import PackedRows
from rfr.data.preference_pairs import Pairing, PreferencePairs
from rfr.data.prepare import Prepared, PreparedSplit
from rfr.data.prompt_hashes import prompt_hashes
from rfr.errors import UserError
from rfr.objective.baselines import Baseline, advantages
from rfr.objective.losses import Loss
from rfr.objective.own_stories import RewardedStories, RoundData, WithinPrompts
from rfr.objective.quantiles import Quantiles
from rfr.objective.raw_weights import WeightFunction, leave_one_out
from rfr.objective.story_weights import story_weights
from rfr.reward.base import Reward, rewards_by_thread

SPLIT = {"train": "train", "validation": "validation", "stopping": "validation"}  # that the rows are taken from
LogProbabilities = Callable[[PackedRows], np.ndarray]  # of each piece's targets, summed


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Rows to learn from and to validate on, and what is known of them before the first step.

    Args:
        stopping: held-out rows by which the best model is chosen, so that `validation` only reports it; None: `validation`
            does both.
    """

    train: BatchSource
    validation: BatchSource
    stopping: BatchSource | None = None
    shown: dict[str, str] = field(default_factory=dict)  # for people
    figures: dict[str, float] = field(default_factory=dict)  # to be logged
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # whose distributions are to be logged

    @property
    def validations(self) -> dict[str, BatchSource]:
        """By what their figures are logged under; the first is reported, the last chooses the best model."""
        return {"val": self.validation} if self.stopping is None else {"val": self.validation, "stop": self.stopping}

    def with_reference(self, log_probabilities: LogProbabilities, *, training: bool = True) -> TrainingData:
        """The same, pairs knowing how likely their stories were before training.

        Args:
            training: False: only those that are validated on.
        """
        train, validation = self.train, self.validation
        assert isinstance(train, PairRows), "only pairs are compared with what was likely before"
        assert isinstance(validation, PairRows)
        return replace(
            self,
            train=train.with_reference(log_probabilities(train.rows)) if training else train,
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

    def round_data(self, stories: RewardedStories) -> RoundData:
        """Weigh a round's own stories within prompts; people's stories beside them keep their weights."""
        within = WithinPrompts(
            function=self.weight, stories=stories.rewards_PK.shape[1], advantages=self.baseline is not None
        )  # fmt: skip
        own, tokens = stories.rewards_PK.size, stories.target_tokens
        weights, health = story_weights(within, stories.rewards_PK.ravel(), tokens[:own], self.clip, self.ess_floor)
        everyone = np.append(weights, stories.people_weights)
        return RoundData(
            source=WeightedRows(stories.rows, everyone),
            weights=weights,
            figures=health.figures | {f"weights_{name}": getattr(health, name) for name in ("ess", "clipped_share", "entropy")},
            people=stories.rows.pieces.story >= own,
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
        pairs = {name: self._pairs(getattr(prepared, name), of_split) for name, of_split in rewards.items()}
        if not self.loss.is_policy:
            pairs |= _halves(pairs["validation"], prepared.validation)
        counts = {name: len(of_split.chosen) for name, of_split in pairs.items()}
        held_out = f"{counts['validation']:,} held out"
        if "stopping" in counts:
            held_out += f", {counts['stopping']:,} of other threads to stop by"
        rows = {name: PairRows(getattr(prepared, SPLIT[name]).rows, of_split) for name, of_split in pairs.items()}
        pair_counts = f"{counts['train']:,}, of {len(pairs['train'].story):,} stories; {held_out}"
        return TrainingData(
            **rows,
            shown={"rows": f"{len(rows['train']):,}", "pairs to compare": pair_counts},
            arrays={"rewards": rewards["train"]},
            figures={f"pairs/{name}": float(count) for name, count in counts.items()},
        )

    def round_data(self, stories: RewardedStories) -> RoundData:
        """The best story of each prompt against its worst; nothing of a prompt whose stories are worth the same. People's pairs
        stand beside them."""
        rewards_PK = stories.rewards_PK
        best, worst = rewards_PK.argmax(axis=1), rewards_PK.argmin(axis=1)
        told_apart = np.flatnonzero(np.ptp(rewards_PK, axis=1) > 0)
        if not len(told_apart):
            raise UserError("all stories of this round are worth the same, so none is better than another: take another judge")
        first = told_apart * rewards_PK.shape[1]
        both = np.stack([first + best[told_apart], first + worst[told_apart]], axis=1).ravel()
        weights = np.zeros(rewards_PK.size)
        weights[both] = np.tile([1.0, -1.0], len(told_apart))
        everyone = np.append(both, rewards_PK.size + np.arange(len(stories.people_weights)))
        groups = np.arange(len(everyone) // 2)
        pairs = PreferencePairs(story=everyone, group=np.repeat(groups, 2), chosen=2 * groups, rejected=2 * groups + 1)
        return RoundData(
            source=PairRows(stories.rows, pairs, stories.start_logprobs[everyone]),
            weights=weights,
            figures={"pairs": float(len(told_apart))},
            people=groups >= len(told_apart),
        )

    def _pairs(self, split: PreparedSplit, rewards: np.ndarray) -> PreferencePairs:
        return self.pairing(rewards, split.stories.column("thread_id"), split.target_tokens)


def _halves(pairs: PreferencePairs, split: PreparedSplit) -> dict[str, PreferencePairs]:
    """The held-out threads in two halves, by a hash of the prompt: one to report a reward model by, one to stop it by. None
    where a half would be empty."""
    prompts = split.stories.column("prompt")[pairs.story[np.unique(pairs.group, return_index=True)[1]]]
    reported = prompt_hashes(prompts) % 2 == 0
    if reported.all() or not reported.any():
        return {}
    return {"validation": pairs.of_groups(reported), "stopping": pairs.of_groups(~reported)}


@dataclass(frozen=True, kw_only=True)
class PolicyGradientObjective:
    """The policy learns from what it writes itself: `rollouts=own`. People's stories are cloned, where they are mixed in."""

    control: ClassVar[None] = None
    name: str
    loss: Loss

    def training_data(self, prepared: Prepared, reward: Reward) -> TrainingData:
        """People's stories, each with the advantage 1; no reward is asked."""
        train, validation = (
            AdvantageRows(rows, np.ones(len(rows.stories)), np.full(len(rows.stories), np.nan))
            for rows in (prepared.train.rows, prepared.validation.rows)
        )
        return TrainingData(train=train, validation=validation)

    def round_data(self, stories: RewardedStories) -> RoundData:
        """Signed weights: each story's reward less the mean of the others on its prompt."""
        advantages = leave_one_out(stories.rewards_PK).ravel()
        unknown = np.full(len(stories.people_weights), np.nan)
        drawn = np.append(stories.policy_logprobs if stories.steps > 1 else stories.policy_logprobs * np.nan, unknown)
        rows = stories.rows
        return RoundData(
            source=AdvantageRows(rows, np.append(advantages, stories.people_weights), drawn),
            weights=advantages,
            figures={"advantage_sd": float(advantages.std())},
            people=rows.pieces.story >= len(advantages),
        )


Objective = WeightedObjective | PairwiseObjective | PolicyGradientObjective


def story_rewards(reward: Reward, split: PreparedSplit) -> np.ndarray:
    """One reward per story of the split, float64, in the order of its stories."""
    each = zip(split.threads, rewards_by_thread(reward, split.threads), strict=True)
    by_reply = {story.reply_id: value for thread, values in each for story, value in zip(thread, values, strict=True)}
    return np.array([by_reply[story.reply_id] for story in split.stories], dtype=np.float64)

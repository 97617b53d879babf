"""A round of the policy's own stories: what an objective is given, and what it hands to the learner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rfr.data.batches import BatchSource
from rfr.data.pack.rows import PackedRows
from rfr.objective.raw_weights import WeightFunction, effective_sample_size, leave_one_out


@dataclass(frozen=True, kw_only=True)
class RewardedStories:
    """K stories on each of P prompts, and what they are worth.

    Args:
        rows: a row per story; story p * K + k is the k-th one on prompt p. People's stories may follow them.
        rewards_PK: float64.
        policy_logprobs: of each story under the policy that wrote it; float64.
        start_logprobs: of each story, people's included, under the start policy; float64, NaN where the loss does not need it.
        steps: optimizer steps in which they are learned from.
        people_weights: of people's stories; float64. Of pairs, which follow one another, 1 the better story, -1 the other.
    """

    rows: PackedRows
    rewards_PK: np.ndarray
    policy_logprobs: np.ndarray
    start_logprobs: np.ndarray
    steps: int
    people_weights: np.ndarray

    @property
    def target_tokens(self) -> np.ndarray:
        """The target tokens of each story, people's included; int64."""
        endless = np.zeros(len(self.rows.stories), bool) if self.rows.cut_off is None else self.rows.cut_off
        return self.rows.story_tokens + ~endless


@dataclass(frozen=True, kw_only=True)
class RoundData:
    """Rows to learn from in a round.

    Args:
        weights: of each of the policy's stories in the loss, float64; of signed ones the advantage.
        figures: to be logged.
        people: which rows hold people's stories; bool of shape (rows,).
    """

    source: BatchSource
    weights: np.ndarray
    figures: dict[str, float]
    people: np.ndarray


@dataclass(frozen=True, kw_only=True)
class WithinPrompts:
    """A weight function applied within prompts: each prompt's weights add up to the same. Where all stories are worth the same,
    each weighs 1: that is cloning.

    Args:
        stories: on each prompt; they follow one another.
        advantages: the function takes (r - mean of the others) / sd instead of the rewards.
    """

    function: WeightFunction
    stories: int
    advantages: bool

    def __call__(self, rewards: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        rewards_PK = rewards.reshape(-1, self.stories)
        if np.ptp(rewards_PK, axis=1).max() == 0:
            return np.ones_like(rewards), {"ess_within_prompts": 1.0}
        if self.advantages:
            advantages_PK = leave_one_out(rewards_PK)
            rewards_PK = advantages_PK / advantages_PK.std()
        raw_PK, figures = self.function.within_prompts(rewards_PK)
        sums_P1 = raw_PK.sum(axis=1, keepdims=True)
        weights_PK = np.divide(raw_PK * self.stories, sums_P1, out=np.zeros_like(raw_PK), where=sums_P1 > 0)
        ess = float(np.mean([effective_sample_size(row) for row in weights_PK if row.any()]))
        return weights_PK.ravel(), figures | {"ess_within_prompts": ess}

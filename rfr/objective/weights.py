"""Rewards into story weights: computed once, in float64, scaled to a token-weighted mean of 1 over the training split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar, Protocol

import numpy as np
from scipy.optimize import brentq


class WeightFunction(Protocol):
    """Rewards (float64, shape (stories,)) -> raw weights >= 0, same shape; `reads_rewards`: whether they matter."""

    reads_rewards: ClassVar[bool]

    def __call__(self, rewards: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Behaviour cloning: every weight is 1."""

    reads_rewards: ClassVar[bool] = False

    def __call__(self, rewards: np.ndarray) -> np.ndarray:
        return np.ones_like(rewards)


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """Reward-weighted regression, w = exp(r / beta) (Peters & Schaal 2007).

    Either `beta` is given, or it is solved for so that the effective sample size is `target_ess` of the stories.

    Raises:
        ValueError: beta <= 0, both or neither given, all rewards equal, or a target ties put out of reach.
    """

    reads_rewards: ClassVar[bool] = True
    beta: float | None = None
    target_ess: float | None = None

    def __post_init__(self) -> None:
        if (self.beta is None) == (self.target_ess is None):
            raise ValueError("give objective.weight.beta or objective.weight.target_ess, and set the other to null")
        if self.beta is not None and not self.beta > 0:
            raise ValueError(f"objective.weight.beta must be above 0, not {self.beta}")
        if self.target_ess is not None and not 0 < self.target_ess < 1:
            raise ValueError(f"objective.weight.target_ess must lie between 0 and 1, not {self.target_ess}")

    def __call__(self, rewards: np.ndarray) -> np.ndarray:
        if np.ptp(rewards) == 0:
            raise ValueError("all rewards are equal, so there is nothing to prefer: use objective=bc or another reward")
        beta = self.beta if self.beta is not None else self._solve(rewards)
        return exponential_weights(rewards, beta)

    def _solve(self, rewards: np.ndarray) -> float:
        assert self.target_ess is not None
        target, spread = self.target_ess, float(np.ptp(rewards))

        def excess(log_beta: float) -> float:
            return effective_sample_size(exponential_weights(rewards, np.exp(log_beta))) - target

        low, high = np.log(spread * 1e-4), np.log(spread * 1e4)
        if excess(low) > 0:
            raise ValueError(
                f"objective.weight.target_ess={target} is out of reach: {excess(low) + target:.3f} of the stories tie for the "
                "best reward; raise it"
            )
        return float(np.exp(brentq(excess, low, high, xtol=1e-6)))


def exponential_weights(rewards: np.ndarray, beta: float) -> np.ndarray:
    """exp((r - max r) / beta): the shift changes no ratio and cannot overflow."""
    return np.exp((rewards - rewards.max()) / beta)


def effective_sample_size(weights: np.ndarray) -> float:
    """Kish's (sum w)^2 / sum w^2, as a share of the number of weights: in (0, 1]."""
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


@dataclass(frozen=True, kw_only=True)
class WeightHealth:
    """What the weights do to the data; `ess` and `largest_share` in (0, 1]."""

    ess: float
    largest_share: float
    stories: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def story_weights(function: WeightFunction, rewards: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, WeightHealth]:
    """Final weights of a split, float64 of shape (stories,), and their health.

    Args:
        rewards: one per story.
        tokens: target tokens per story.

    Raises:
        ValueError: a reward is NaN or infinite.
    """
    if not np.isfinite(rewards).all():
        raise ValueError(f"{int((~np.isfinite(rewards)).sum())} rewards are NaN or infinite: check the scores in the store")
    raw = function(np.asarray(rewards, dtype=np.float64))
    # Divide the two sums, not w by their quotient: constant weights then come out as exactly 1.0.
    weights = raw * tokens.sum() / (raw * tokens).sum()
    health = WeightHealth(
        ess=effective_sample_size(raw), largest_share=float((raw * tokens).max() / (raw * tokens).sum()), stories=len(raw)
    )
    return weights, health

"""Turns rewards into raw weights, a class for each weighted objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from scipy.optimize import brentq

from rfr.errors import UserError
from rfr.ranges import AboveZero, Share

RawWeights = Callable[[np.ndarray], tuple[np.ndarray, dict[str, float]]]  # rewards -> raw weights and figures


class WeightFunction(Protocol):
    """Rewards (float64, shape (stories,)) -> raw weights >= 0, same shape, and figures they came from, to be logged."""

    uses_rewards: ClassVar[bool]  # False: the weights do not depend on the rewards, so none are computed

    def __call__(self, rewards: np.ndarray) -> tuple[np.ndarray, dict[str, float]]: ...

    def within_prompts(self, rewards_PK: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """The same for K stories of the policy's own on each of P prompts, which compete with those on their prompt alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Behaviour cloning: every weight is 1."""

    uses_rewards: ClassVar[bool] = False

    def __call__(self, rewards: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        return np.ones_like(rewards), {}

    def within_prompts(self, rewards_PK: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        return self(rewards_PK)


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """w = exp(r / beta): of rewards reward-weighted regression (Peters & Schaal 2007), of advantages AWR (Peng et al. 2019).

    Either `beta` is given, or it is solved for so that the effective sample size is `target_ess` of the stories.

    Raises:
        UserError: beta <= 0, both or neither given, all rewards equal, or a target that ties put out of reach.
    """

    uses_rewards: ClassVar[bool] = True
    beta: AboveZero | None = None
    target_ess: Share | None = None

    def __post_init__(self) -> None:
        if (self.beta is None) == (self.target_ess is None):
            raise UserError("give objective.weight.beta or objective.weight.target_ess, and set the other to null")
        if self.beta is not None and not self.beta > 0:
            raise UserError(f"objective.weight.beta must be above 0, not {self.beta}")
        if self.target_ess is not None and not 0 < self.target_ess < 1:
            raise UserError(f"objective.weight.target_ess must lie between 0 and 1, not {self.target_ess}")

    def __call__(self, rewards: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        require_preferences(rewards)
        beta = self.beta if self.beta is not None else self._solve(rewards)
        return exponential_weights(rewards, beta), {"beta": beta}

    def within_prompts(self, rewards_PK: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """Beta is solved for the mean effective sample size within the prompts; where ties put it out of reach, only the best
        stories count."""
        centred_PK = rewards_PK - rewards_PK.max(axis=1, keepdims=True)
        low, high = np.log(np.ptp(rewards_PK, axis=1).max()) + np.log([1e-4, 1e4])

        def excess(log_beta: float) -> float:
            assert self.target_ess is not None
            return float(np.mean([effective_sample_size(row) for row in np.exp(centred_PK / np.exp(log_beta))])) - self.target_ess

        if self.beta is not None:
            beta = self.beta
        else:
            beta = float(np.exp(low if excess(low) > 0 else brentq(excess, low, high, xtol=1e-6)))
        return np.exp(centred_PK / beta), {"beta": beta}

    def _solve(self, rewards: np.ndarray) -> float:
        assert self.target_ess is not None
        target, spread = self.target_ess, float(np.ptp(rewards))

        def excess(log_beta: float) -> float:
            return effective_sample_size(exponential_weights(rewards, np.exp(log_beta))) - target

        low, high = np.log(spread * 1e-4), np.log(spread * 1e4)
        if excess(low) > 0:
            raise UserError(
                f"objective.weight.target_ess={target} is out of reach: {excess(low) + target:.3f} of the stories tie for the "
                "best reward; raise it"
            )
        return float(np.exp(brentq(excess, low, high, xtol=1e-6)))


@dataclass(frozen=True, kw_only=True)
class Top:
    """Filtered cloning (the `%BC` of Chen et al. 2021): w = 1 for the best `share` of the stories and all that tie with
    its last, 0 for the others.

    Raises:
        UserError: a share outside (0, 1), all rewards equal.
    """

    uses_rewards: ClassVar[bool] = True
    share: Share = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError(f"objective.weight.share must lie between 0 and 1, not {self.share}")

    def __call__(self, rewards: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        require_preferences(rewards)
        cut = float(np.quantile(rewards, 1 - self.share))
        return (rewards >= cut).astype(np.float64), {"cut": cut}

    def within_prompts(self, rewards_PK: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """The best of each prompt: rejection sampling, RAFT (Dong et al. 2023)."""
        return (rewards_PK >= np.quantile(rewards_PK, 1 - self.share, axis=1, keepdims=True)).astype(np.float64), {}


@dataclass(frozen=True, kw_only=True)
class Positive:
    """w = max(A, 0): what is no better than its baseline is left out (A-LoL, Baheti et al. 2024, without importance ratios).

    Raises:
        UserError: no advantage is above 0.
    """

    uses_rewards: ClassVar[bool] = True

    def __call__(self, rewards: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        require_preferences(rewards)
        if not (rewards > 0).any():
            raise UserError("no story is better than its baseline: use objective=rwr, or another reward")
        return np.maximum(rewards, 0.0), {}

    def within_prompts(self, rewards_PK: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        return np.maximum(leave_one_out(rewards_PK), 0.0), {}


@dataclass(frozen=True, kw_only=True)
class Linear:
    """w = max(0, 1 + slope z), z the reward in standard deviations from the mean: the gentlest.

    Raises:
        UserError: slope <= 0, all rewards equal.
    """

    uses_rewards: ClassVar[bool] = True
    slope: AboveZero = 0.5

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise UserError(f"objective.weight.slope must be above 0, not {self.slope}")

    def __call__(self, rewards: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        require_preferences(rewards)
        return np.maximum(0.0, 1 + self.slope * (rewards - rewards.mean()) / rewards.std()), {}

    def within_prompts(self, rewards_PK: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        centred_PK = rewards_PK - rewards_PK.mean(axis=1, keepdims=True)
        return np.maximum(0.0, 1 + self.slope * centred_PK / centred_PK.std()), {}


def leave_one_out(rewards_PK: np.ndarray) -> np.ndarray:
    """Each reward less the mean of the others on its prompt (Kool et al. 2019); those of a prompt add up to 0."""
    stories = rewards_PK.shape[1]
    return (rewards_PK - rewards_PK.mean(axis=1, keepdims=True)) * stories / (stories - 1)


def exponential_weights(rewards: np.ndarray, beta: float) -> np.ndarray:
    """exp((r - max r) / beta): the shift changes no ratio and cannot overflow."""
    return np.exp((rewards - rewards.max()) / beta)


def effective_sample_size(weights: np.ndarray) -> float:
    """Kish's (sum w)^2 / sum w^2, as a share of the number of weights: in (0, 1]."""
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def require_preferences(rewards: np.ndarray) -> None:
    """
    Raises:
        UserError: all rewards are equal.
    """
    if np.ptp(rewards) == 0:
        raise UserError("all rewards are equal, so there is nothing to prefer: use objective=bc or another reward")

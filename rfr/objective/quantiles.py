"""The quantile of the training rewards that each story lies in, for `objective=conditional`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rfr.errors import UserError, require_whole
from rfr.objective.raw_weights import require_preferences
from rfr.ranges import Several


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """`count` parts of the training stories by reward, equally large but for ties, which stay together.

    Raises:
        UserError: fewer than 2 quantiles.
    """

    count: Several = 5

    def __post_init__(self) -> None:
        require_whole("objective.control.count", self.count, least=2)

    def __call__(self, rewards: np.ndarray, training: np.ndarray) -> np.ndarray:
        """The quantile of each reward, 0 being the worst; int64.

        Args:
            training: the rewards whose quantiles are taken.

        Raises:
            UserError: the training rewards are all equal, or a reward is NaN or infinite.
            UserError: ties would leave a quantile empty.
        """
        if not (np.isfinite(rewards).all() and np.isfinite(training).all()):
            raise UserError("rewards are NaN or infinite: check the scores in the store")
        require_preferences(training)
        seen = np.sort(training)
        if missing := self.count - len(np.unique(self._quantile_numbers(training, seen))):
            raise UserError(
                f"{missing} of objective.control.count={self.count} parts would be empty, so many stories have the same reward: "
                "lower it, or take another reward"
            )
        return self._quantile_numbers(rewards, seen)

    def _quantile_numbers(self, rewards: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """By the share of the training stories whose reward is lower, those alike counting half."""
        lower, not_higher = (np.searchsorted(seen, rewards, side) for side in ("left", "right"))
        return np.minimum((lower + not_higher) * self.count // (2 * len(seen)), self.count - 1)

"""What a conditional policy is told of a story: in which part of the training stories by reward it lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rfr.errors import require_whole
from rfr.objective.weights import require_preferences


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """`count` parts of the training stories by reward, equally large but for ties, which stay together.

    Raises:
        ValueError: less than 2.
    """

    count: int = 5

    def __post_init__(self) -> None:
        require_whole("objective.control.count", self.count, least=2)

    def __call__(self, rewards: np.ndarray, training: np.ndarray) -> np.ndarray:
        """Of each reward, the number of its part, 0 being the worst; int64.

        Args:
            training: the rewards that the parts are made of.

        Raises:
            ValueError: these are all equal, or one of either is NaN or infinite.
        """
        if not (np.isfinite(rewards).all() and np.isfinite(training).all()):
            raise ValueError("rewards are NaN or infinite: check the scores in the store")
        require_preferences(training)
        edges = np.quantile(training, np.arange(1, self.count) / self.count)
        return np.searchsorted(edges, rewards, side="right")

"""95 % intervals by drawing whole threads, or prompts, again."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

BOOTSTRAPS, AT_ONCE = 2000, 50


def cluster_interval(groups: SequenceOf[SequenceOf[float]], seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over all values, whole groups resampled."""
    return interval_of_ratio(np.array([sum(g) for g in groups]), np.array([len(g) for g in groups]), seed)


def interval_of_ratio(sums: np.ndarray, sizes: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The interval of sum(sums) / sum(sizes), each of shape (groups,), resampling whole groups."""
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(BOOTSTRAPS // AT_ONCE):
        drawn = generator.integers(len(sums), size=(AT_ONCE, len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)

"""Rank correlations of a reward with something else: within threads, and over all replies."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
from scipy.stats import rankdata

FEWEST_REPLIES = 5  # the fewest replies of a thread that is looked into


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Of two arrays that vary; scipy's `spearmanr` also finds a p-value, which takes ten times as long."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def within_threads(a: SequenceOf[np.ndarray], b: SequenceOf[np.ndarray]) -> np.ndarray:
    """Spearman's of each thread with `FEWEST_REPLIES` replies or more in which neither is the same for all.

    Args:
        a, b: one array per thread, a value per reply; replies for which either is NaN are left out.
    """
    correlations = []
    for one, other in zip(a, b, strict=True):
        known = ~(np.isnan(one) | np.isnan(other))
        if known.sum() >= FEWEST_REPLIES and np.ptp(one[known]) > 0 and np.ptp(other[known]) > 0:
            correlations.append(spearman(one[known], other[known]))
    return np.array(correlations)


def over_all(a: SequenceOf[np.ndarray], b: SequenceOf[np.ndarray]) -> float:
    """Spearman's over all replies, however they fall into threads; NaN where either is the same for all."""
    one, other = np.concatenate(list(a)), np.concatenate(list(b))
    known = ~(np.isnan(one) | np.isnan(other))
    if known.sum() < FEWEST_REPLIES or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return float("nan")
    return spearman(one[known], other[known])

"""Advantages: how much better a reply did than was to be expected of any reply to its prompt."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Protocol

import numpy as np

from rfr.ranges import AboveZero
from rfr.records import Pair


class Baseline(Protocol):
    """Rewards, float64 of shape (stories,), and their pairs -> what was to be expected, the same shape."""

    def __call__(self, rewards: np.ndarray, pairs: SequenceOf[Pair]) -> np.ndarray: ...


class ThreadMean:
    """b = (sum of the thread's other rewards + k * mean of all other rewards) / (other replies + k).

    Leaving a reply out of its own baseline keeps it unbiased (Kool et al. 2019).

    Args:
        shrinkage: k, in replies: so much is a small thread pulled towards the mean of all.

    Raises:
        ValueError: k <= 0; a lone reply would have no baseline.
    """

    def __init__(self, shrinkage: AboveZero = 1.0) -> None:
        if not shrinkage > 0:
            raise ValueError(f"objective.baseline.shrinkage must be above 0, not {shrinkage}")
        self._shrinkage = shrinkage

    def __call__(self, rewards: np.ndarray, pairs: SequenceOf[Pair]) -> np.ndarray:
        thread = np.unique([pair.thread_id for pair in pairs], return_inverse=True)[1]
        others = np.bincount(thread)[thread] - 1
        of_others = np.bincount(thread, rewards)[thread] - rewards
        of_all = (rewards.sum() - rewards) / max(1, len(rewards) - 1)
        return (of_others + self._shrinkage * of_all) / (others + self._shrinkage)


def advantages(rewards: np.ndarray, pairs: SequenceOf[Pair], baseline: Baseline | None) -> np.ndarray:
    """(r - b) / sd, float64 of shape (stories,), so that one beta serves any reward; their mean stays, for its sign matters.

    Without a baseline the rewards as they are.
    """
    if baseline is None:
        return rewards
    found = rewards - baseline(rewards, pairs)
    deviation = found.std()
    return found / deviation if deviation > 1e-12 else np.zeros_like(found)

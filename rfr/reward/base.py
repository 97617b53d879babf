"""The contract of a reward, and statistics that several rewards share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.stats import rankdata

from rfr.errors import UserError
from rfr.records import Story

ReplyThread = SequenceOf[Story]


class Reward(Protocol):
    """`fit(training threads)`, then thread -> float64 array, one reward per reply, in the thread's order."""

    def fit(self, threads: SequenceOf[ReplyThread]) -> None: ...

    def __call__(self, thread: ReplyThread) -> np.ndarray: ...


@runtime_checkable
class BatchedReward(Protocol):
    """A reward that is much quicker for many threads at once."""

    def of_threads(self, threads: Iterable[ReplyThread]) -> Iterator[np.ndarray]: ...


def rewards_by_thread(reward: Reward, threads: Iterable[ReplyThread]) -> Iterator[np.ndarray]:
    """One float64 array per thread, one reward per reply."""
    return reward.of_threads(threads) if isinstance(reward, BatchedReward) else map(reward, threads)


def scores(thread: ReplyThread) -> np.ndarray:
    """Karma of each reply, float64.

    Raises:
        UserError: a score is unknown.
    """
    if any(story.score is None for story in thread):
        raise UserError(
            "there are stories without karma: leave them out (preprocess.scored_only=true) or clone them (objective=bc)"
        )
    return np.array([story.score for story in thread], dtype=np.float64)


def log_scores(thread: ReplyThread) -> np.ndarray:
    """Symmetric log of karma, y = sign(k) log(1 + |k|): a negative score stays negative."""
    return symmetric_log(scores(thread))


def symmetric_log(karma: np.ndarray) -> np.ndarray:
    return np.sign(karma) * np.log1p(np.abs(karma))


def mid_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks in (0, 1), ties sharing their mean rank: (rank - 1/2) / n."""
    return (rankdata(values) - 0.5) / len(values)


def zscores(values: np.ndarray) -> np.ndarray:
    """(x - mean) / sd within the array; all 0 where nothing varies (ties, a single reply)."""
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 1e-12 else np.zeros_like(values)

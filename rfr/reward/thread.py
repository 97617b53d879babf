"""Rewards relative to the thread: `thread_rank` and `thread_zscore`. A lone reply gets 0."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

from rfr.reward.base import ReplyThread, log_scores, mid_ranks, scores, zscores


class ThreadRank:
    """r = sqrt(12) (q - 1/2), q = (rank - 1/2) / n within the thread, ties sharing their mean rank.

    The factor gives a large thread's rewards standard deviation 1.
    """

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        """Nothing to fit."""

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        return np.sqrt(12) * (mid_ranks(scores(thread)) - 0.5)


class ThreadZscore:
    """r = z-score of sign(k) log(1 + |k|) within the thread."""

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        """Nothing to fit."""

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        return zscores(log_scores(thread))

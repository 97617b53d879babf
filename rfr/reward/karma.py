"""Rewards that read a reply's karma alone: `karma` and `log_karma`."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

from rfr.reward.base import ReplyThread, log_scores, scores


class Karma:
    """r = karma, as it stands."""

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        """Nothing to fit."""

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        return scores(thread)


class LogKarma:
    """r = (sign(k) log(1 + |k|) - mean) / sd, mean and sd over all training replies."""

    def __init__(self) -> None:
        self.mean, self.deviation = 0.0, 1.0

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        values = np.concatenate([log_scores(thread) for thread in threads])
        self.mean, self.deviation = float(values.mean()), float(values.std()) or 1.0

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        return (log_scores(thread) - self.mean) / self.deviation

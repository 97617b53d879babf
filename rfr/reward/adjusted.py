"""`reward=adjusted_rank`: the rank in the thread, corrected for when the reply was posted."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
from scipy.stats import rankdata

from rfr.errors import UserError
from rfr.ranges import Fraction
from rfr.reward.base import ReplyThread, scores, zscores
from rfr.reward.confounders import delays_s, require_times


class AdjustedRank:
    """r = (1 - m) z(rank) + m z(posting time), z-scores within the thread, later replies being the later time (rfr, 2021).

    A reply without a time gets its thread's mean time, a lone reply 0. Where m isn't given it is fitted on the training
    threads, so that Pearson's correlation of r with z(posting time) is 0: m = -b / (1 - b), b the slope of z(rank) over z(time),
    at least 0. Delays are skewed, so the rank correlation of r with them stays below 0 (-0.2 on the demo).

    Args:
        time_share: m, in [0, 1]; None: fitted.

    Raises:
        UserError: m is not in [0, 1].
        UserError: the corpus has no reply times.
    """

    def __init__(self, time_share: Fraction | None = None) -> None:
        if time_share is not None and not 0 <= time_share <= 1:
            raise UserError(f"reward.time_share must lie between 0 and 1, not {time_share}")
        self._given, self.time_share = time_share, time_share or 0.0

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        require_times(threads, "adjusted_rank")
        if self._given is None:
            ranks, times = (np.concatenate(values) for values in zip(*map(_ranks_and_times, threads), strict=True))
            slope = min(0.0, float(ranks @ times) / max(float(times @ times), 1e-12))
            self.time_share = -slope / (1 - slope)

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        ranks, times = _ranks_and_times(thread)
        return (1 - self.time_share) * ranks + self.time_share * times


def _ranks_and_times(thread: ReplyThread) -> tuple[np.ndarray, np.ndarray]:
    delays = delays_s(thread)
    known = ~np.isnan(delays)
    times = np.zeros(len(thread))
    times[known] = zscores(delays[known]) if known.any() else 0.0
    return zscores(rankdata(scores(thread))), times

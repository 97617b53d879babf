"""Rewards that keep only the quantile, or tier, of another reward among all training replies."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Annotated

import numpy as np
from annotated_types import MinLen

from rfr.errors import UserError
from rfr.ranges import Share
from rfr.reward.base import ReplyThread, Reward


class Quantile:
    """r = share of the training replies whose inner reward is lower, those alike counting half: in [0, 1].

    Quantiles as a reward: Quark (Lu et al. 2022), QRPO (Matrenok et al. 2025).

    Args:
        inner: the reward whose quantiles are taken.
    """

    def __init__(self, inner: Reward) -> None:
        self._inner, self._seen = inner, np.zeros(0)

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        self._inner.fit(threads)
        self._seen = np.sort(np.concatenate([self._inner(thread) for thread in threads]))

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        values = self._inner(thread)
        lower, not_higher = (np.searchsorted(self._seen, values, side) for side in ("left", "right"))
        return (lower + not_higher) / (2 * len(self._seen))


class Tiers:
    """r = -1 (bad), 0 (ok) or 1 (good): lowest, middle and highest part of the training replies by an inner reward (rfr, 2021).

    n cuts make n + 1 tiers, evenly spaced from -1 to 1.

    Args:
        inner: the reward whose quantiles are taken.
        cuts: quantiles of the training replies, in (0, 1), rising.

    Raises:
        UserError: the cuts do not rise, or lie outside (0, 1).
    """

    def __init__(self, inner: Reward, cuts: Annotated[SequenceOf[Share], MinLen(1)] = (1 / 3, 2 / 3)) -> None:
        cuts = tuple(cuts)
        if not cuts or not all(0 < cut < 1 for cut in cuts) or list(cuts) != sorted(set(cuts)):
            raise UserError(f"reward.cuts must rise and lie between 0 and 1, not {list(cuts)}")
        self._quantile, self._cuts = Quantile(inner), np.array(cuts)

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        self._quantile.fit(threads)

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        tier = np.searchsorted(self._cuts, self._quantile(thread), side="right")
        return 2 * tier / len(self._cuts) - 1

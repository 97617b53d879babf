"""The confounders of karma: the time of posting, the number of readers, the length. None is a merit of the story.

The position in Reddit's listing follows from karma and does not cause it; it is never read.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf

import numpy as np
from scipy.stats import rankdata

from rfr.errors import UserError
from rfr.reward.base import ReplyThread

KNOWN = 0.5  # of the training replies must have a time, or the corpus counts as one without times
NAMES = (
    "delay (hours)",
    "arrival in the thread",
    "post's score",
    "thread's size",
    "hour of the day",
    "length (words)",
    "score's age (days)",
)


def confounders(thread: ReplyThread) -> np.ndarray:
    """The confounders `NAMES` of each reply: float64 of shape (replies, len(NAMES)), NaN where unknown."""
    delays, ages = delays_s(thread), _known(story.score_age_s for story in thread)
    columns = (
        delays / 3600,
        arrivals(delays),
        _known(story.post_score for story in thread),
        np.full(len(thread), float(len(thread))),
        _known(story.created_utc for story in thread) % 86_400 / 3600,
        words(thread),
        ages / 86_400,
    )
    return np.column_stack(columns)


def delays_s(thread: ReplyThread) -> np.ndarray:
    """Seconds from the post to each reply, NaN where they are not known."""
    return _known(story.delay_s for story in thread)


def arrivals(delays: np.ndarray) -> np.ndarray:
    """The first reply that came is 1; NaN where the time is not known."""
    arrival = np.full(len(delays), np.nan)
    known = ~np.isnan(delays)
    arrival[known] = rankdata(delays[known])
    return arrival


def words(thread: ReplyThread) -> np.ndarray:
    """Length of each response, in words."""
    return np.array([len(story.response.split()) for story in thread], dtype=np.float64)


def require_times(threads: SequenceOf[ReplyThread], reward: str) -> None:
    """
    Raises:
        UserError: most of the replies have no time.
    """
    known = [story.delay_s is not None for thread in threads for story in thread]
    if np.mean(known) < KNOWN:
        raise UserError(
            f"reward={reward} needs the times of the replies, and {1 - np.mean(known):.0%} of this corpus lack them: "
            "reward=thread_rank does without"
        )


def _known(values: Iterable[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

"""The reward nobody has: the true quality. For the demo subreddit only, to see what karma costs."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

from rfr.errors import UserError
from rfr.grammar import parse_prompt, true_quality
from rfr.reward.base import ReplyThread


class Oracle:
    """r = (true quality - mean) / sd over the training replies.

    Raises:
        UserError: the corpus is not the demo subreddit's.
    """

    def __init__(self) -> None:
        self.mean, self.deviation = 0.0, 1.0

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        if any(parse_prompt(thread[0].prompt) is None for thread in threads):
            raise UserError("reward=oracle knows the demo subreddit only: choose corpus=demo, or reward=thread_rank")
        values = np.concatenate([_qualities(thread) for thread in threads])
        self.mean, self.deviation = float(values.mean()), float(values.std()) or 1.0

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        return (_qualities(thread) - self.mean) / self.deviation


def _qualities(thread: ReplyThread) -> np.ndarray:
    return np.array([true_quality(pair.prompt, pair.response) for pair in thread])

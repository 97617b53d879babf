"""Rewards that know the demo's true quality or its model of karma: the most that a reward can recover.

They show how much is lost because the reward sees karma only, and how much because it does not know how karma comes about.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from zlib import crc32

import numpy as np

from rfr.demo.grammar import parse_prompt, true_quality
from rfr.demo.subreddit import KarmaModel, vote
from rfr.errors import UserError
from rfr.ranges import Count, Seed
from rfr.reward.base import ReplyThread, log_scores, symmetric_log
from rfr.reward.confounders import delays_s, words


class Oracle:
    """r = (true quality - mean) / sd over the training replies.

    Raises:
        UserError: the corpus is not the demo subreddit's.
    """

    def __init__(self) -> None:
        self.mean, self.deviation = 0.0, 1.0

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        _require_demo(threads, "oracle")
        values = np.concatenate([_qualities(thread) for thread in threads])
        self.mean, self.deviation = float(values.mean()), float(values.std()) or 1.0

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        return (_qualities(thread) - self.mean) / self.deviation


class OracleResidual:
    """r = (y - E y) / sd y, y = sign(k) log(1 + |k|), E y and sd y what the demo's own model of karma gives to any story that
    came when this one came and is as long. It knows the model and all of its parameters, but no story's quality.

    The most that adjusting karma can recover; `residual` has to learn what this one knows.

    Args:
        karma: the model; None: the corpus is not the demo's.
        draws: of each thread's karma.
        seed: of the draws.

    Raises:
        UserError: the corpus is not the demo subreddit's.
    """

    LEAST_DEVIATION = 0.1  # of y: all stories that came after the crowd had left have the same karma

    def __init__(self, karma: KarmaModel | None, draws: Count = 400, seed: Seed = 0) -> None:
        self._karma, self._draws, self._seed = karma, draws, seed
        self._anybody = np.zeros(0)  # true qualities of the training replies

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        _require_demo(threads, "oracle_residual")
        if self._karma is None:
            raise UserError("reward=oracle_residual needs the demo's model of karma: choose corpus=demo")
        self._anybody = np.sort(np.concatenate([_qualities(thread) for thread in threads]))

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        assert self._karma is not None
        order = np.argsort([story.reply_id for story in thread])  # draws go to replies, however they are listed
        listed = [thread[index] for index in order]
        generator, shape = np.random.default_rng([self._seed, crc32(thread[0].thread_id.encode())]), (self._draws, len(thread))
        quality, luck = generator.choice(self._anybody, shape), generator.normal(size=shape)
        drawn = symmetric_log(vote(quality, luck, words(listed), delays_s(listed) / 3600, self._karma, generator))
        rewards = np.empty(len(thread))
        rewards[order] = (log_scores(listed) - drawn.mean(0)) / np.maximum(drawn.std(0), self.LEAST_DEVIATION)
        return rewards


def _require_demo(threads: SequenceOf[ReplyThread], reward: str) -> None:
    if any(parse_prompt(thread[0].prompt) is None for thread in threads):
        raise UserError(f"reward={reward} knows the demo subreddit only: choose corpus=demo, or reward=thread_rank")


def _qualities(thread: ReplyThread) -> np.ndarray:
    return np.array([true_quality(story.prompt, story.response) for story in thread])

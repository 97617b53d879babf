"""Baselines and advantages: how much better a reply did than a reply to its prompt was expected to do."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Protocol

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from rfr.errors import UserError, as_user_error
from rfr.ranges import AboveZero, Seed, Several, ZeroOrMore
from rfr.records import Story


class Baseline(Protocol):
    """Rewards, float64 of shape (stories,), and their stories -> what was to be expected, the same shape."""

    def __call__(self, rewards: np.ndarray, stories: SequenceOf[Story]) -> np.ndarray: ...


class ThreadMean:
    """b = (sum of the thread's other rewards + k * mean of all other rewards) / (other replies + k).

    Leaving a reply out of its own baseline keeps it unbiased (Kool et al. 2019).

    Args:
        shrinkage: k, in replies: the weight of the mean of all replies in a thread's baseline.

    Raises:
        UserError: k <= 0; a lone reply would have no baseline.
    """

    def __init__(self, shrinkage: AboveZero = 1.0) -> None:
        if not shrinkage > 0:
            raise UserError(f"objective.baseline.shrinkage must be above 0, not {shrinkage}")
        self._shrinkage = shrinkage

    def __call__(self, rewards: np.ndarray, stories: SequenceOf[Story]) -> np.ndarray:
        thread = np.unique([story.thread_id for story in stories], return_inverse=True)[1]
        others = np.bincount(thread)[thread] - 1
        of_others = np.bincount(thread, rewards)[thread] - rewards
        of_all = (rewards.sum() - rewards) / max(1, len(rewards) - 1)
        return (of_others + self._shrinkage * of_all) / (others + self._shrinkage)


class PromptValue:
    """b = V(prompt): ridge regression of a thread's mean reward on the words and pairs of words of its prompt (tf-idf).

    Cross-fitted: a prompt's value comes from other threads. Threads are weighted by their replies: means of larger threads are
    surer.

    Args:
        folds: the number of folds of whole prompts, at least 2.
        ridge: the penalty on squared coefficients.
        seed: seeds the folds.

    Raises:
        UserError: fewer than 2 folds.
        UserError: fewer prompts than folds.
    """

    def __init__(self, folds: Several = 5, ridge: ZeroOrMore = 10.0, seed: Seed = 0) -> None:
        if folds < 2:
            raise UserError(f"objective.baseline.folds must be 2 or more, not {folds}")
        self._folds, self._ridge, self._seed = folds, ridge, seed

    def __call__(self, rewards: np.ndarray, stories: SequenceOf[Story]) -> np.ndarray:
        prompts, prompt = np.unique([story.prompt for story in stories], return_inverse=True)
        if len(prompts) < self._folds:
            raise UserError(
                f"the value of a prompt is fitted on {self._folds} folds, and there are {len(prompts)} prompts: lower "
                "objective.baseline.folds, or take objective/baseline=thread_mean"
            )
        replies = np.bincount(prompt)
        means = np.bincount(prompt, rewards) / replies
        folds = np.random.default_rng(self._seed).permutation(len(prompts)) % self._folds
        values = np.empty(len(prompts))
        for fold in range(self._folds):
            seen, held_out = folds != fold, folds == fold
            model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), Ridge(self._ridge))
            with as_user_error("no value of a prompt can be fitted", ValueError, remedy="take objective/baseline=thread_mean"):
                model.fit(prompts[seen], means[seen], ridge__sample_weight=replies[seen])
            values[held_out] = model.predict(prompts[held_out])
        return values[prompt]


def advantages(rewards: np.ndarray, stories: SequenceOf[Story], baseline: Baseline | None) -> np.ndarray:
    """(r - b) / sd, float64 of shape (stories,), so that one beta serves any reward; their mean stays, for its sign matters.

    Without a baseline these are the rewards.
    """
    if baseline is None:
        return rewards
    centred = rewards - baseline(rewards, stories)
    deviation = centred.std()
    return centred / deviation if deviation > 1e-12 else np.zeros_like(centred)

"""The value of a prompt, from its words: fitted before training, and then left alone."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from rfr.errors import UserError
from rfr.ranges import Seed, Several, ZeroOrMore
from rfr.records import Pair


class PromptValue:
    """b = V(prompt): ridge regression of a thread's mean reward on the words and pairs of words of its prompt (tf-idf).

    Cross-fitted: a prompt's value comes from other threads. Weighted by replies, for larger threads' means are surer.

    Args:
        folds: of whole prompts, at least 2.
        ridge: the penalty.
        seed: of the folds.

    Raises:
        ValueError: fewer than 2 folds.
        UserError: fewer prompts than folds.
    """

    def __init__(self, folds: Several = 5, ridge: ZeroOrMore = 10.0, seed: Seed = 0) -> None:
        if folds < 2:
            raise ValueError(f"objective.baseline.folds must be 2 or more, not {folds}")
        self._folds, self._ridge, self._seed = folds, ridge, seed

    def __call__(self, rewards: np.ndarray, pairs: SequenceOf[Pair]) -> np.ndarray:
        prompts, prompt = np.unique([pair.prompt for pair in pairs], return_inverse=True)
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
            model.fit(prompts[seen], means[seen], ridge__sample_weight=replies[seen])
            values[held_out] = model.predict(prompts[held_out])
        return values[prompt]

"""`reward=residual`: karma minus what delay, crowd, length and hour predict, cross-fitted."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from rfr.errors import UserError
from rfr.ranges import AboveZero, Count, Seed, Several
from rfr.reward.base import ReplyThread, log_scores
from rfr.reward.confounders import confounders, require_times
from rfr.reward.trees import fit_trees, predict


class Residual:
    """r = (y - f(x)) / sd: y = sign(k) log(1 + |k|), f gradient-boosted trees on the confounders x, sd of the training residuals.

    Cross-fitted as in double machine learning (Chernozhukov et al. 2018): folds are whole threads, f of a training thread has
    not seen it, and any other thread gets the mean of all folds' f. The trees handle values that are not known.

    Args:
        folds: their number, at least 2.
        iterations, learning_rate, leaves: of the trees, scikit-learn's `max_iter`, `learning_rate` and `max_leaf_nodes`.
        seed: seeds the folds.

    Raises:
        UserError: fewer than 2 folds.
        UserError: the corpus has no reply times, or fewer threads than folds.
    """

    def __init__(
        self, folds: Several = 5, iterations: Count = 200, learning_rate: AboveZero = 0.05, leaves: Several = 15, seed: Seed = 0
    ) -> None:
        if folds < 2:
            raise UserError(f"reward.folds must be 2 or more, not {folds}")
        self._folds, self._seed = folds, seed
        self._trees = {"max_iter": iterations, "learning_rate": learning_rate, "max_leaf_nodes": leaves}
        self._models: list[HistGradientBoostingRegressor] = []
        self._fold_of: dict[str, int] = {}  # by the training threads' ids
        self.deviation = 1.0

    def fit(self, threads: SequenceOf[ReplyThread]) -> None:
        require_times(threads, "residual")
        if len(threads) < self._folds:
            raise UserError(
                f"reward=residual fits on {self._folds} folds of whole threads, and there are {len(threads)}: "
                "lower reward.folds, or take reward=thread_rank"
            )
        threads = sorted((sorted(t, key=lambda story: story.reply_id) for t in threads), key=lambda t: t[0].thread_id)
        # They are sorted: their order in the corpus does not matter.
        order = np.random.default_rng(self._seed).permutation(len(threads))
        self._fold_of = {threads[index][0].thread_id: number % self._folds for number, index in enumerate(order)}
        folds = np.array([self._fold_of[thread[0].thread_id] for thread in threads])
        self._models = [
            self._regression([thread for thread, own in zip(threads, folds, strict=True) if own != fold])
            for fold in range(self._folds)
        ]
        residuals = np.concatenate([log_scores(thread) - self._expected(thread) for thread in threads])
        self.deviation = float(residuals.std()) or 1.0

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        return (log_scores(thread) - self._expected(thread)) / self.deviation

    def _regression(self, threads: SequenceOf[ReplyThread]) -> HistGradientBoostingRegressor:
        x, y = (np.concatenate([of(thread) for thread in threads]) for of in (confounders, log_scores))
        return fit_trees(x, y, **self._trees)

    def _expected(self, thread: ReplyThread) -> np.ndarray:
        """Symmetric log karma of such replies."""
        fold = self._fold_of.get(thread[0].thread_id)
        models, x = self._models if fold is None else [self._models[fold]], confounders(thread)
        return np.mean([predict(model, x) for model in models], axis=0)

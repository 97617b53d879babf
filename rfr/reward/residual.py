"""`reward=residual`: karma minus what delay, crowd, length and hour predict, cross-fitted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from itertools import islice

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from rfr.errors import UserError
from rfr.ranges import AboveZero, Count, Seed, Several
from rfr.reward.base import ReplyThread, log_scores
from rfr.reward.confounders import confounders, require_times
from rfr.reward.trees import fit_trees, predict

THREADS_AT_ONCE = 2_000


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
        self.deviation = 1.0
        self.deviation = float(np.concatenate(list(self.of_threads(threads))).std()) or 1.0

    def __call__(self, thread: ReplyThread) -> np.ndarray:
        return next(self.of_threads([thread]))

    def of_threads(self, threads: Iterable[ReplyThread]) -> Iterator[np.ndarray]:
        """The rewards of each thread: trees take nearly as long for one thread as for a thousand."""
        rest = iter(threads)
        while some := list(islice(rest, THREADS_AT_ONCE)):
            residuals = np.concatenate([log_scores(thread) for thread in some]) - self._expected(some)
            yield from np.split(residuals / self.deviation, np.cumsum([len(thread) for thread in some])[:-1])

    def _regression(self, threads: SequenceOf[ReplyThread]) -> HistGradientBoostingRegressor:
        x, y = (np.concatenate([of(thread) for thread in threads]) for of in (confounders, log_scores))
        return fit_trees(x, y, **self._trees)

    def _expected(self, threads: SequenceOf[ReplyThread]) -> np.ndarray:
        """Symmetric log karma of such replies, of all threads in turn."""
        x, no_fold = np.concatenate([confounders(thread) for thread in threads]), -1
        folds = np.repeat([self._fold_of.get(thread[0].thread_id, no_fold) for thread in threads], list(map(len, threads)))
        expected = np.zeros(len(x))
        for fold in np.unique(folds):
            models, members = self._models if fold == no_fold else [self._models[fold]], folds == fold
            expected[members] = np.mean([predict(model, x[members]) for model in models], axis=0)
        return expected

"""Gradient-boosted trees on the confounders of replies."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import ThreadpoolController

FEW_ROWS = 100_000  # below, one core is quicker: beside other work, threads wait for one another and take four times as long


def fit_trees(x: np.ndarray, y: np.ndarray, **settings: float) -> HistGradientBoostingRegressor:
    """scikit-learn's, always the same for the same rows.

    Args:
        x: (rows, features), NaN where a value is not known.
        y: (rows,).
        settings: `max_iter`, `learning_rate`, `max_leaf_nodes` and others of scikit-learn's.
    """
    # Stopping early would be decided on rows drawn without regard to threads.
    trees = HistGradientBoostingRegressor(**settings, early_stopping=False, random_state=0)
    with _cores(len(y)):
        return trees.fit(x, y)


def predict(trees: HistGradientBoostingRegressor, x: np.ndarray) -> np.ndarray:
    """float64 of shape (rows,)."""
    with _cores(len(x)):
        return trees.predict(x)


def _cores(rows: int) -> AbstractContextManager[object]:
    return _controller().limit(limits=1 if rows < FEW_ROWS else None, user_api="openmp")


@cache
def _controller() -> ThreadpoolController:
    """Looking for the libraries takes longer than many a prediction."""
    return ThreadpoolController()

"""Slopes, spreads and correlations among the stories on one prompt: differences between prompts do not count."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

ROUNDING = 1e-12  # of the largest value


def centred(values: np.ndarray, prompts: SequenceOf[str]) -> np.ndarray:
    """Each value less the mean of its prompt, 0 where only rounding is left; float64 of the same shape."""
    group = np.unique(np.asarray(prompts), return_inverse=True)[1]
    left = values - (np.bincount(group, values) / np.bincount(group))[group]
    return np.where(np.abs(left) > ROUNDING * np.abs(values).max(), left, 0.0)


def spread(values: np.ndarray, prompts: SequenceOf[str]) -> float:
    """The standard deviation within a prompt, pooled; 0 where no prompt has two stories."""
    freedom = len(values) - len(set(prompts))
    return float(np.sqrt((centred(values, prompts) ** 2).sum() / freedom)) if freedom else 0.0


def slope(values: np.ndarray, on: np.ndarray, prompts: SequenceOf[str]) -> float:
    """By least squares, of the values on other ones, each prompt having a level of its own; 0 where those do not vary."""
    x, y = centred(on, prompts), centred(values, prompts)
    squares = float((x**2).sum())
    return float((x * y).sum()) / squares if squares > 0 else 0.0


def correlation(one: np.ndarray, other: np.ndarray, prompts: SequenceOf[str]) -> float:
    """Pearson's, of the values less their prompt's mean; 0 where either does not vary."""
    x, y = centred(one, prompts), centred(other, prompts)
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 0 else 0.0


def log_words(texts: SequenceOf[str]) -> np.ndarray:
    """The logarithm of each text's number of words and 1; float64."""
    return np.log1p([len(text.split()) for text in texts])


def mean_error(values: np.ndarray, prompts: SequenceOf[str]) -> float:
    """The standard error of the mean, the stories on one prompt being no independent draws; 0 where there is one prompt."""
    group = np.unique(np.asarray(prompts), return_inverse=True)[1]
    sums, sizes = np.bincount(group, values), np.bincount(group)
    if len(sums) == 1:
        return 0.0
    residuals = sums - sizes * values.mean()
    return float(np.sqrt((residuals**2).sum() * len(sums) / (len(sums) - 1)) / len(values))

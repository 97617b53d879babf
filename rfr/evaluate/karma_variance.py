"""Measures what karma is made of in a corpus: the share of the thread, the time, the length, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf

import numpy as np
from sklearn.model_selection import GroupKFold

from rfr.evaluate.correlation import over_all, within_threads
from rfr.reward.base import ReplyThread, log_scores, scores, symmetric_log
from rfr.reward.confounders import KNOWN, NAMES, confounders
from rfr.reward.trees import fit_trees, predict
from rfr.utils.intervals import mean_interval

DELAY, ARRIVAL, HOUR, LENGTH = 0, 1, 4, 5  # their indices in NAMES
# Confounders in causal order, added one after the other. Given the delay, arrival only tells who had a head start: what it
# adds is herding.
ADDED = {"delay": [DELAY], "head start (herding)": [ARRIVAL], "hour of the day": [HOUR], "length": [LENGTH]}
FOLDS, FEW_READINGS = 5, 30
FUZZING = "vote fuzzing"
REST = "the rest (quality, taste, luck)"


def variance_shares(threads: SequenceOf[ReplyThread], read_again: SequenceOf[tuple[int, int]] = ()) -> dict[str, float | None]:
    """Shares of the variance of y = sign(k) log(1 + |k|), which add up to 1; None where the corpus lacks the data.

    The thread's share is that of the means (analysis of variance, unbiased for small threads). Within threads, shares of
    `ADDED` are what each adds to what trees predict of threads that they have not seen. Vote fuzzing is half the mean square
    by which two readings of one settled score differ: Reddit alters what it shows, and late votes make this an upper bound.
    Counting noise is what Poisson counts of such a size would vary by. The rest is quality, taste, fame and luck.

    Args:
        threads: all replies with their newest score.
        read_again: scores of a reply at two readings after the voting; fewer than `FEW_READINGS` give no estimate.

    Returns:
        The shares; none where there are fewer than `FOLDS` threads, or karma does not vary.
    """
    y = [log_scores(thread) for thread in threads]
    whole = np.concatenate([np.zeros(0), *y])
    if len(threads) < FOLDS or np.ptp(whole) == 0:
        return {}
    thread_share = _between(y, whole)
    within = 1 - thread_share
    shares: dict[str, float | None] = {"thread": thread_share}
    for name, added in _added(threads, y).items():
        shares[name] = None if added is None else within * added
    variance, left = float(whole.var()), 1 - sum(share for share in shares.values() if share)
    shares[FUZZING] = None if len(read_again) < FEW_READINGS else min(_fuzzing(read_again) / variance, left)
    left -= shares[FUZZING] or 0.0
    karma = np.concatenate([scores(thread) for thread in threads])
    counting = min(float(np.mean(1 / (1 + np.abs(karma)))) / variance, left)
    return {**shares, "counting noise": counting, REST: left - counting}


def _fuzzing(read_again: SequenceOf[tuple[int, int]]) -> float:
    first, second = symmetric_log(np.array(read_again, dtype=float)).T
    return float(np.mean((second - first) ** 2)) / 2


def _between(y: SequenceOf[np.ndarray], whole: np.ndarray) -> float:
    """The variance of threads' means over the whole, the part of it taken off that is only replies' own."""
    sizes = np.array([len(values) for values in y])
    inside = sum(float(((values - values.mean()) ** 2).sum()) for values in y) / max(1, int((sizes - 1).sum()))
    return float(np.clip(1 - inside / whole.var(), 0, 1))


def _added(threads: SequenceOf[ReplyThread], y: SequenceOf[np.ndarray]) -> dict[str, float | None]:
    """The share of the variance within threads that each of `ADDED` adds to those before it, on held-out threads."""
    x = np.concatenate([confounders(thread) for thread in threads])
    group = np.repeat(np.arange(len(threads)), [len(values) for values in y])
    centred = np.concatenate([values - values.mean() for values in y])
    added: dict[str, float | None] = {}
    columns: list[int] = []
    before = 0.0
    for name, more in ADDED.items():
        if np.isnan(x[:, more]).mean() > 1 - KNOWN:
            added[name] = None
            continue
        columns += more
        now = max(before, _explained(x[:, columns], centred, group))
        added[name], before = now - before, now
    return added


def _explained(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> float:
    predicted = np.zeros_like(y)
    for seen, held_out in GroupKFold(FOLDS).split(x, y, group):
        predicted[held_out] = predict(fit_trees(x[seen], y[seen], max_iter=100, max_leaf_nodes=8), x[held_out])
    return float(1 - ((y - predicted) ** 2).sum() / (y**2).sum())


def correlations(
    threads: SequenceOf[ReplyThread], rewards: Mapping[str, SequenceOf[np.ndarray]]
) -> list[dict[str, str | float | None]]:
    """Spearman's of each reward with each confounder: the mean within threads, where it differs within them, with a 95 %
    interval; and over all.
    """
    columns = [confounders(thread) for thread in threads]
    table = []
    for name, values in rewards.items():
        for column, confounder in enumerate(NAMES):
            of_confounder = [matrix[:, column] for matrix in columns]
            inside = within_threads(values, of_confounder)
            whole = over_all(values, of_confounder)
            low, high = mean_interval(inside)
            table.append(
                {
                    "reward": name,
                    "confounder": confounder,
                    "within": float(inside.mean()) if len(inside) else None,
                    "within_low": low,
                    "within_high": high,
                    "over_all": None if np.isnan(whole) else whole,
                }
            )
    return table


def with_true_quality(
    threads: SequenceOf[ReplyThread], rewards: Mapping[str, SequenceOf[np.ndarray]], quality: Callable[[str, str], float]
) -> list[dict[str, str | float | None]]:
    """Spearman's of each reward with the true quality: the mean within threads, with a 95 % interval.

    Args:
        quality: (prompt, story) -> true quality.
    """
    true = [np.array([quality(story.prompt, story.response) for story in thread]) for thread in threads]
    rows: list[dict[str, str | float | None]] = []
    for name, values in rewards.items():
        inside = within_threads(values, true)
        low, high = mean_interval(inside)
        rows.append({"reward": name, "within": float(inside.mean()) if len(inside) else None, "low": low, "high": high})
    return rows

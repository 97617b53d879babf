"""How well the text of stories in threads never seen predicts each reward, within a thread.

What is neither merit nor noise can't be read from the text: of two rewards, the one that text predicts better holds more of
what the story itself earns. What text can tell without being merit is taken out: words written after the votes, length, and the
time of posting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import norm, rankdata
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from rfr.evaluate.text_features import between_threads_removed, splines, text_features
from rfr.reward.base import ReplyThread, mid_ranks
from rfr.reward.confounders import KNOWN, arrivals, delays_s, words
from rfr.utils.intervals import Interval, ratio_interval

FOLDS = 5
PENALTY = 5.0  # of the ridge regression
MOST_REPLIES = 100_000  # of more, whole threads are drawn, so that memory is bounded
AFTER_VOTES, LENGTH, TIME = "text written after the votes", "length", "delay and arrival"


@dataclass(frozen=True, kw_only=True)
class TextCorrelation:
    """What text tells of karma, in `threads` threads with two replies or more.

    Args:
        orderings: names of rewards, those together that order the replies of every thread alike: within threads they are one.
        by_thread: Spearman's correlation of the text's prediction with each ordering, shape (threads, orderings).
        weights: of the threads, replies less one; shape (threads,).
        removed: the share of the text's correlation with the best ordering that went with each thing taken out, in this order.
    """

    replies: int
    orderings: list[list[str]]
    by_thread: np.ndarray
    weights: np.ndarray
    removed: dict[str, float]

    @property
    def threads(self) -> int:
        return len(self.weights)

    @property
    def means(self) -> np.ndarray:
        """The correlation of each ordering: the mean over threads, weighted; shape (orderings,)."""
        return self.weights @ self.by_thread / self.weights.sum()

    @property
    def best(self) -> int:
        return int(np.argmax(self.means))

    def interval(self, ordering: int) -> Interval:
        """95 %, over threads."""
        return ratio_interval(self.weights * self.by_thread[:, ordering], self.weights)

    def ahead(self, one: int, other: int) -> Interval:
        """95 %, of the difference of two orderings' correlations, paired by threads."""
        difference = self.by_thread[:, one] - self.by_thread[:, other]
        return ratio_interval(self.weights * difference, self.weights)

    def figures(self) -> dict[str, Any]:
        """As the report keeps them: the best ordering first, and how far the others are behind it."""
        best, means = self.best, self.means
        rows = []
        for place in sorted(range(len(means)), key=lambda place: -means[place]):
            (low, high), (behind_low, behind_high) = self.interval(place), self.ahead(best, place)
            behind = {"behind": float(means[best] - means[place]), "behind_low": behind_low, "behind_high": behind_high}
            row = {"rewards": self.orderings[place], "correlation": float(means[place]), "low": low, "high": high}
            rows.append(row if place == best else row | behind)
        return {"threads": self.threads, "replies": self.replies, "orderings": rows, "removed": self.removed}


def text_correlation(
    threads: SequenceOf[ReplyThread],
    rewards: Mapping[str, SequenceOf[np.ndarray]],
    uncut: SequenceOf[SequenceOf[str]] | None = None,
    seed: int = 0,
) -> TextCorrelation | None:
    """Ridge regression on TF-IDF, cross-fitted on folds of whole threads; None where fewer than `FOLDS` threads have two replies.

    Rewards become normal scores within the thread. Length and time are regressed out of these before the text is fitted to
    them, and out of the prediction, which is then compared with the rewards. Length is taken out of these as well: a longer
    story may be better, or only longer, and no reward is to gain by it. Time is not: a reward that follows the time of posting
    is the worse for it. One prediction serves all rewards, the mean of theirs: it varies less.

    Args:
        threads: cleaned stories.
        rewards: by name, one array per thread.
        uncut: the stories' texts with what was written after the votes; None: there is no such text.
        seed: of the threads that are drawn where there are more than `MOST_REPLIES`.
    """
    chosen = _chosen([len(thread) for thread in threads], seed)
    if len(chosen) < FOLDS:
        return None
    threads = [threads[index] for index in chosen]
    names, values = _orderings({name: [values[index] for index in chosen] for name, values in rewards.items()})
    scores = np.column_stack([np.concatenate([_normal_scores(of_thread) for of_thread in ordering]) for ordering in values])
    group = np.repeat(np.arange(len(threads)), [len(thread) for thread in threads])
    weights = np.array([len(thread) - 1.0 for thread in threads])
    longer = None if uncut is None else [text for index in chosen for text in uncut[index]]
    removed, by_thread = [], []
    for stage in _stages(threads, longer, group):
        predicted = _predicted(stage.features, scores, group, stage.from_prediction)
        removed.append(stage.removed)
        by_thread.append(_by_thread(predicted, _without(scores, stage.from_reward), group))
    means = [weights @ of_stage / weights.sum() for of_stage in by_thread]
    best = int(np.argmax(means[-1]))
    lost = [float((before[best] - after[best]) / max(means[0][best], 1e-12)) for before, after in pairwise(means)]
    return TextCorrelation(
        replies=len(group), orderings=names, by_thread=by_thread[-1], weights=weights,
        removed=dict(zip(removed[1:], lost, strict=True)),
    )  # fmt: skip


def _chosen(sizes: SequenceOf[int], seed: int) -> list[int]:
    """The threads with two replies or more; a draw of them where they have more than `MOST_REPLIES`."""
    compared = [index for index, size in enumerate(sizes) if size > 1]
    drawn = np.random.default_rng(seed).permutation(compared) if sum(sizes[i] for i in compared) > MOST_REPLIES else compared
    total = np.cumsum([sizes[index] for index in drawn])
    return sorted(int(index) for index, so_far in zip(drawn, total, strict=True) if so_far <= MOST_REPLIES)


def _orderings(rewards: Mapping[str, list[np.ndarray]]) -> tuple[list[list[str]], list[list[np.ndarray]]]:
    """The rewards' names, those together that order every thread alike; and the values of the first of each."""
    names: dict[bytes, list[str]] = {}
    for name, values in rewards.items():
        names.setdefault(np.concatenate([rankdata(of_thread) for of_thread in values]).tobytes(), []).append(name)
    return list(names.values()), [rewards[alike[0]] for alike in names.values()]


def _normal_scores(values: np.ndarray) -> np.ndarray:
    return norm.ppf(mid_ranks(values))


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """What was taken out last, the features that are left, and columns that are regressed out."""

    removed: str
    features: sparse.csr_matrix
    from_prediction: np.ndarray | None = None
    from_reward: np.ndarray | None = None


def _stages(threads: SequenceOf[ReplyThread], longer: list[str] | None, group: np.ndarray) -> Iterator[_Stage]:
    """First nothing is taken out, then one thing after the other."""
    prompts = [thread[0].prompt for thread in threads]
    if longer is not None:
        yield _Stage(removed="", features=text_features(longer, prompts, group))
    features = text_features([story.response for thread in threads for story in thread], prompts, group)
    yield _Stage(removed="" if longer is None else AFTER_VOTES, features=features)
    length = between_threads_removed(splines(np.concatenate([words(thread) for thread in threads])), group)
    yield _Stage(removed=LENGTH, features=features, from_prediction=length, from_reward=length)
    delays = [delays_s(thread) for thread in threads]
    if np.mean(~np.isnan(np.concatenate(delays))) >= KNOWN:
        arrival = np.concatenate([arrivals(delay) / len(delay) for delay in delays])
        time = between_threads_removed(np.hstack([splines(np.concatenate(delays)), splines(arrival)]), group)
        yield _Stage(removed=TIME, features=features, from_prediction=np.hstack([length, time]), from_reward=length)


def _predicted(features: sparse.csr_matrix, scores: np.ndarray, group: np.ndarray, confounders: np.ndarray | None) -> np.ndarray:
    """The mean of the rewards' predictions, each in standard deviations; shape (stories,)."""
    targets, predicted = _without(scores, confounders), np.zeros_like(scores)
    for seen, held_out in GroupKFold(FOLDS).split(features, scores, group):
        ridge = Ridge(alpha=PENALTY, fit_intercept=False, solver="sparse_cg").fit(features[seen], targets[seen])
        predicted[held_out] = ridge.predict(features[held_out]).reshape(len(held_out), -1)
    predicted = _without(between_threads_removed(predicted, group), confounders)
    return (predicted / np.maximum(predicted.std(axis=0), 1e-12)).mean(axis=1)


def _without(columns: np.ndarray, confounders: np.ndarray | None) -> np.ndarray:
    """What confounders do not explain, by least squares."""
    if confounders is None:
        return columns
    return columns - confounders @ np.linalg.lstsq(confounders, columns, rcond=None)[0]


def _by_thread(predicted: np.ndarray, scores: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Spearman's of the prediction and each reward, 0 where either is the same for all replies; shape (threads, rewards)."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    correlations = np.zeros((len(starts), scores.shape[1]))
    for thread, members in enumerate(np.split(np.arange(len(group)), starts[1:])):
        ranks = rankdata(np.column_stack([predicted[members], scores[members]]), axis=0)
        ranks -= ranks.mean(axis=0)
        length = np.sqrt((ranks**2).sum(axis=0))
        correlations[thread] = ranks[:, 0] @ ranks[:, 1:] / np.maximum(length[0] * length[1:], 1e-12)
    return correlations

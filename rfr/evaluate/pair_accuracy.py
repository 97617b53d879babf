"""Measures how often a score ranks two replies of a thread as karma does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from rfr.records import Story
from rfr.reward.confounders import words
from rfr.utils.intervals import ratio_interval

RATIOS = (2, 5)  # of the better reply's karma to the other's
HOUR_S, NEAR = 3600.0, 0.9


@dataclass(frozen=True, kw_only=True)
class KarmaPairs:
    """Two replies to one post, the one with so many times the other's karma; int64 arrays of one length.

    `better` and `worse` are indices of stories, `thread` numbers the threads.
    """

    better: np.ndarray
    worse: np.ndarray
    thread: np.ndarray

    def where(self, kept: np.ndarray) -> KarmaPairs:
        return KarmaPairs(better=self.better[kept], worse=self.worse[kept], thread=self.thread[kept])


Condition = Callable[[KarmaPairs, np.ndarray, np.ndarray], np.ndarray]  # pairs, words and times of all stories -> which are kept


def not_earlier(pairs: KarmaPairs, lengths: np.ndarray, posted_s: np.ndarray) -> np.ndarray:
    """The better one did not come first, so that time can't be why (SHP, Ethayarajh et al. 2022)."""
    return posted_s[pairs.better] >= posted_s[pairs.worse]


def within_an_hour(pairs: KarmaPairs, lengths: np.ndarray, posted_s: np.ndarray) -> np.ndarray:
    """As DialogRPT pairs replies (Gao et al. 2020)."""
    return np.abs(posted_s[pairs.better] - posted_s[pairs.worse]) <= HOUR_S


def length_matched(pairs: KarmaPairs, lengths: np.ndarray, posted_s: np.ndarray) -> np.ndarray:
    """Word counts within 10 % of the longer."""
    one, other = lengths[pairs.better], lengths[pairs.worse]
    return np.minimum(one, other) >= NEAR * np.maximum(one, other)


CONDITIONS: dict[str, Condition] = {
    "all": lambda pairs, lengths, posted_s: np.ones(len(pairs.better), bool),
    "not earlier (SHP)": not_earlier,
    "within an hour": within_an_hour,
    "length-matched": length_matched,
}


def accuracies(
    stories: SequenceOf[Story], scores: Mapping[str, np.ndarray], reference: str | None = None
) -> list[dict[str, str | int | float | None]]:
    """The pair accuracy of every score, at every ratio, under every condition: how often it is higher where karma is.

    Ties count half. `accuracy`, `low` and `high` are None where there are no such pairs: the corpus has no times, or the score
    has no values for them.

    Args:
        scores: one value per story, NaN where there is none.
        reference: the score that the others are compared with: their rows get `behind`, `behind_low` and `behind_high`.
    """
    lengths = words(stories)
    posted_s = np.array([np.nan if story.created_utc is None else story.created_utc for story in stories])
    table = []
    for ratio in RATIOS:
        pairs = karma_pairs(stories, ratio)
        for condition, keep in CONDITIONS.items():
            kept = pairs.where(keep(pairs, lengths, posted_s))
            for name, score in scores.items():
                row = {"score": name, "ratio": ratio, "condition": condition, **accuracy(kept, score)}
                if reference is not None and name != reference:
                    row |= behind(kept, score, scores[reference])
                table.append(row)
    return table


def karma_pairs(stories: SequenceOf[Story], ratio: float) -> KarmaPairs:
    """All pairs of a thread whose karma is apart by `ratio` or more; below 1 counts as 1, and hidden scores have none."""
    known = [index for index, story in enumerate(stories) if story.score is not None]
    threads: dict[str, list[int]] = {}
    for index in known:
        threads.setdefault(stories[index].thread_id, []).append(index)
    karma = np.array([0 if story.score is None else story.score for story in stories])
    columns = []
    for number, members in enumerate(threads.values()):
        indices = np.array(members)
        own = karma[indices]
        better, worse = np.nonzero((own[:, None] > own) & (own[:, None] >= ratio * np.maximum(1, own)))
        columns.append((indices[better], indices[worse], np.full(len(better), number)))
    if not columns:
        return KarmaPairs(better=np.zeros(0, int), worse=np.zeros(0, int), thread=np.zeros(0, int))
    better, worse, thread = (np.concatenate(column) for column in zip(*columns, strict=True))
    return KarmaPairs(better=better, worse=worse, thread=thread)


def accuracy(pairs: KarmaPairs, score: np.ndarray) -> dict[str, float | int | None]:
    """Share of the pairs that the score has the right way round, with a 95 % interval over threads; numbers of both."""
    hits = _hits(pairs, score)
    known = ~np.isnan(hits)
    if not known.any():
        return {"accuracy": None, "low": None, "high": None, "pairs": 0, "threads": 0}
    sums, sizes = _by_thread(hits[known], pairs.thread[known])
    low, high = ratio_interval(sums, sizes, share=True)
    return {"accuracy": float(hits[known].mean()), "low": low, "high": high, "pairs": int(known.sum()), "threads": len(sizes)}


def behind(pairs: KarmaPairs, score: np.ndarray, reference: np.ndarray) -> dict[str, float | bool | None]:
    """By how much the accuracy is less than the reference's on the same pairs, with a 95 % interval of the paired difference.

    A score that is wrong more often than right knows as much as its opposite, so it is turned round: `turned` says so.
    """
    hits, of_reference = _hits(pairs, score), _hits(pairs, reference)
    known = ~np.isnan(hits + of_reference)
    if not known.any():
        return {"behind": None, "behind_low": None, "behind_high": None, "turned": False}
    turned = bool(hits[known].mean() < 0.5)
    differences = of_reference[known] - (1 - hits[known] if turned else hits[known])
    low, high = ratio_interval(*_by_thread(differences, pairs.thread[known]))
    return {"behind": float(differences.mean()), "behind_low": low, "behind_high": high, "turned": turned}


def _hits(pairs: KarmaPairs, score: np.ndarray) -> np.ndarray:
    """1 where the better reply scores higher, 1/2 at a tie, NaN where a score is not known."""
    return (1 + np.sign(score[pairs.better] - score[pairs.worse])) / 2


def _by_thread(values: np.ndarray, threads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum and the number of the values of each thread that has any."""
    _, group = np.unique(threads, return_inverse=True)
    return np.bincount(group, values), np.bincount(group)

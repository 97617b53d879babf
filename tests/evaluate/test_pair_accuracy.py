"""Pairs of replies ranked as karma ranks them: every condition, and the intervals, against plain loops."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rfr.evaluate.pair_accuracy import CONDITIONS, RATIOS, accuracies, accuracy, behind, karma_pairs
from rfr.records import Story


def _story(thread: str, score: int | None, words: int, posted_s: float | None) -> Story:
    return Story(thread_id=thread, reply_id="r", prompt="p", response="w " * words, score=score, created_utc=posted_s)


def _stories(seed: int, *, times: bool = True) -> list[Story]:
    generator = np.random.default_rng(seed)
    return [
        _story(
            str(generator.integers(12)), None if generator.random() < 0.1 else int(generator.lognormal(2, 2)) - 2,
            int(generator.integers(50, 120)), float(generator.integers(20_000)) if times else None,
        )
        for _ in range(150)
    ]  # fmt: skip


def _by_hand(stories: list[Story], score: np.ndarray, ratio: float, condition: str) -> list[float]:
    hits = []
    for i, j in combinations(range(len(stories)), 2):
        one, other = stories[i], stories[j]
        if one.thread_id != other.thread_id or one.score is None or other.score is None or one.score == other.score:
            continue
        (better, b), (worse, w) = ((one, i), (other, j)) if one.score > other.score else ((other, j), (one, i))
        assert better.score is not None
        assert worse.score is not None
        lengths = sorted(len(story.response.split()) for story in (better, worse))
        apart = (better.created_utc or 0) - (worse.created_utc or 0)
        kept = {"all": True, "not earlier (SHP)": apart >= 0, "within an hour": abs(apart) <= 3600,
                "length-matched": lengths[0] >= 0.9 * lengths[1]}[condition]  # fmt: skip
        if kept and better.score >= ratio * max(1, worse.score):
            hits.append(0.5 if score[b] == score[w] else float(score[b] > score[w]))
    return hits


def test_every_condition_keeps_the_pairs_it_is_to_keep() -> None:
    stories = _stories(0)
    score = np.random.default_rng(1).integers(8, size=len(stories)).astype(float)  # with ties
    rows = accuracies(stories, {"guess": score})
    assert len(rows) == len(RATIOS) * len(CONDITIONS)
    for row in rows:
        hits = _by_hand(stories, score, row["ratio"], row["condition"])  # type: ignore[arg-type]
        assert row["pairs"] == len(hits) > 30
        assert row["accuracy"] == pytest.approx(np.mean(hits))
        assert row["low"] < row["accuracy"] < row["high"]  # type: ignore[operator]
    assert len({row["pairs"] for row in rows}) == len(rows), "no condition is idle"


def test_karma_itself_is_always_right_and_its_opposite_never() -> None:
    stories = _stories(2)
    karma = np.array([np.nan if story.score is None else story.score for story in stories])
    rows = accuracies(stories, {"karma": karma, "opposite": -karma, "constant": np.zeros(len(stories))})
    assert {(row["score"], row["accuracy"]) for row in rows} == {("karma", 1.0), ("opposite", 0.0), ("constant", 0.5)}


def test_without_times_conditions_on_them_have_no_pairs() -> None:
    rows = accuracies(_stories(3, times=False), {"length": np.arange(150.0)})
    none = {row["condition"] for row in rows if row["accuracy"] is None}
    assert none == {"not earlier (SHP)", "within an hour"}
    assert all(row["pairs"] == 0 for row in rows if row["condition"] in none)


def test_stories_without_a_score_are_left_out() -> None:
    stories = [_story("t", karma, 60, 0.0) for karma in (1, 10, 100)]
    assert accuracy(karma_pairs(stories, 2), np.array([np.nan, 2.0, 3.0]))["pairs"] == 1
    assert accuracy(karma_pairs(stories, 2), np.full(3, np.nan))["accuracy"] is None
    assert accuracy(karma_pairs([], 2), np.zeros(0))["pairs"] == 0


def test_a_score_is_compared_with_another_on_the_same_pairs() -> None:
    stories = _stories(4)
    generator = np.random.default_rng(5)
    karma = np.array([np.nan if story.score is None else story.score for story in stories])
    good, bad = karma + generator.normal(size=len(karma)), -karma + 30 * generator.normal(size=len(karma))
    bad[:20] = np.nan
    rows = accuracies(stories, {"good": good, "bad": bad}, reference="good")
    (row,) = (row for row in rows if (row["score"], row["ratio"], row["condition"]) == ("bad", 2, "all"))
    pairs = karma_pairs(stories, 2)
    known = ~np.isnan(good[pairs.better] - good[pairs.worse] + bad[pairs.better] - bad[pairs.worse])
    of_good, of_bad = (np.mean(score[pairs.better] > score[pairs.worse], where=known) for score in (good, bad))
    assert row["turned"], "it is wrong more often than right"
    assert row["behind"] == pytest.approx(of_good - (1 - of_bad))
    assert row["behind_low"] < row["behind"] < row["behind_high"]  # type: ignore[operator]
    assert "behind" not in next(row for row in rows if row["score"] == "good")
    same = behind(pairs, good, good)
    assert (same["behind"], same["behind_low"], same["behind_high"]) == (0, 0, 0)
    assert behind(pairs, np.full(len(karma), np.nan), good)["behind"] is None

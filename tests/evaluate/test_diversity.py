"""Stories among themselves, and against what was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from rfr.evaluate.diversity import RollingHashes, diversity, longest_copies


def test_the_same_story_over_and_over() -> None:
    story = "the witch kept the silver key in the old forest"
    measured = diversity([story] * 5)
    assert measured["self_bleu"] == pytest.approx(1)
    assert measured["distinct_1"] == pytest.approx(8 / 50)
    assert measured["repetition"] == 0


def test_stories_that_share_nothing() -> None:
    measured = diversity([" ".join(f"{name}{i}" for i in range(20)) for name in "abcdef"])
    assert measured == {"distinct_1": 1, "distinct_2": 1, "distinct_3": 1, "self_bleu": 0, "repetition": 0}


def test_a_story_that_goes_round_in_circles() -> None:
    measured = diversity(["one two three four " * 10, "five six seven eight nine"])
    # 37 stretches of four words, of which 4 are new; the other story repeats none.
    assert measured["repetition"] == pytest.approx((33 / 37 + 0) / 2)


def test_empty_and_single_stories_have_figures() -> None:
    assert diversity([""])["self_bleu"] == 0
    assert diversity(["", "a b"])["distinct_2"] == 1


def _by_hand(story: np.ndarray, corpus: np.ndarray) -> int:
    stretches = {tuple(corpus[i:j]) for i in range(len(corpus)) for j in range(i + 1, len(corpus) + 1)}
    return max(
        (j - i for i in range(len(story)) for j in range(i + 1, len(story) + 1) if tuple(story[i:j]) in stretches), default=0
    )


def test_the_longest_copy_is_found() -> None:
    generator = np.random.default_rng(0)
    corpus = generator.integers(4, size=60)
    stories = [generator.integers(4, size=size) for size in (0, 1, 5, 20, 20)]
    stories += [np.concatenate([generator.integers(4, size=3), corpus[20:38], generator.integers(4, size=3)]), corpus, corpus + 9]
    copies = longest_copies(stories, corpus)
    assert copies.tolist() == [_by_hand(story, corpus) for story in stories]
    assert copies[5] >= 18
    assert copies[6] == 60
    assert copies[7] == 0


def test_a_stretchs_hash_does_not_depend_on_where_it_stands() -> None:
    tokens = np.random.default_rng(1).integers(50_000, size=3000)
    tokens[2000:2500] = tokens[100:600]
    hashes = RollingHashes(tokens).hashes(500)
    assert hashes[100] == hashes[2000]
    assert len(np.unique(hashes)) == len(hashes) - 1
    assert len(RollingHashes(tokens[:3]).hashes(4)) == 0

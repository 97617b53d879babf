"""What text tells of each reward: merit counts, the time of posting and what was written after the votes do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rfr.evaluate import text_correlation as module
from rfr.evaluate.recommendation import recommend
from rfr.evaluate.text_correlation import AFTER_VOTES, LENGTH, TIME, TextCorrelation, text_correlation
from rfr.evaluate.text_features import FEATURES, between_threads_removed, splines, text_features
from rfr.records import Story
from rfr.reward.base import log_scores
from rfr.reward.thread import ThreadRank

FILLERS = ["and", "the", "old", "man", "walked", "over", "the", "hill", "while", "rain", "fell", "on", "stones"]


def _corpus(seed: int, *, merit: float = 0.0, early: float = 0.0, told: bool = False, threads: int = 80) -> list[list[Story]]:
    """Stories with "vivid" words that earn karma, and early ones that do; the early ones say so if `told`."""
    generator, corpus = np.random.default_rng(seed), []
    for number in range(threads):
        thread = []
        for index in range(8):
            delay, skill = float(generator.exponential(5_000)), generator.integers(0, 6)
            telling = ["vivid"] * skill + ["dawn"] * (6 if told and delay < 3_000 else 0)
            words = [*telling, *generator.choice(FILLERS, generator.integers(40, 60) - len(telling))]
            generator.shuffle(words)
            y = 4 + merit * (skill - 2.5) + early * (delay < 3_000) * 3 + generator.normal()
            thread.append(Story(
                thread_id=str(number), reply_id=f"{number}-{index}", prompt="[WP] A hill.", response=" ".join(words),
                score=int(np.expm1(max(0.0, y))), delay_s=delay,
            ))  # fmt: skip
        corpus.append(thread)
    return corpus


def _measured(corpus: list[list[Story]], uncut: list[list[str]] | None = None) -> TextCorrelation:
    measured = text_correlation(corpus, {"karma": [log_scores(thread) for thread in corpus]}, uncut)
    assert measured is not None
    return measured


def test_merit_in_the_text_is_found_and_noise_is_not() -> None:
    found = _measured(_corpus(0, merit=1.0))
    low, high = found.interval(0)
    assert low is not None
    assert 0.4 < low < found.means[0] < high
    nothing = _measured(_corpus(1))
    low, high = nothing.interval(0)
    assert low < 0 < high  # type: ignore[operator]


def test_text_that_only_tells_when_it_was_posted_is_no_merit() -> None:
    told = _measured(_corpus(2, early=1.0, told=True))
    assert told.removed[TIME] > 0.8, "nearly all that text told was the time"
    low, _ = told.interval(0)
    assert low < 0.05  # type: ignore[operator]
    both = _measured(_corpus(3, merit=1.0, early=1.0, told=True))
    assert both.interval(0).low > 0.3  # type: ignore[operator]
    assert 0.1 < both.removed[TIME] < 0.7


def test_without_times_they_are_not_taken_out() -> None:
    timeless = [[replace(story, delay_s=None) for story in thread] for thread in _corpus(4, merit=1.0)]
    assert list(_measured(timeless).removed) == [LENGTH]


def test_a_note_after_the_votes_is_no_merit() -> None:
    corpus = _corpus(5)
    uncut = []
    for thread in corpus:
        middle = np.median(log_scores(thread))
        liked = log_scores(thread) > middle
        uncut.append([f"{story.response} thanks gold" if of else story.response for story, of in zip(thread, liked, strict=True)])
    measured = _measured(corpus, uncut)
    assert list(measured.removed) == [AFTER_VOTES, LENGTH, TIME]
    assert measured.removed[AFTER_VOTES] > 0.8
    assert measured.interval(0).low < 0.05  # type: ignore[operator]
    assert measured.means[0] == pytest.approx(_measured(corpus).means[0]), "the cut text is what counts"


def test_a_longer_story_gains_no_reward_an_advantage() -> None:
    """Karma that goes with length and a reward that does not: between them text decides nothing."""
    corpus = _corpus(6, merit=1.0)
    generator = np.random.default_rng(6)

    def lengthened(story: Story) -> Story:
        return replace(story, response=" ".join([story.response, *generator.choice(FILLERS, generator.integers(0, 60))]))

    longer = [[lengthened(story) for story in thread] for thread in corpus]
    words = [np.array([len(story.response.split()) for story in thread], dtype=np.float64) for thread in longer]
    karma = [log_scores(thread) for thread in longer]
    biased = [values + 0.04 * of_thread for values, of_thread in zip(karma, words, strict=True)]
    measured = text_correlation(longer, {"karma": karma, "biased": biased})
    assert measured is not None
    assert abs(measured.means[0] - measured.means[1]) < 0.04


def test_rewards_that_order_threads_alike_are_one() -> None:
    corpus = _corpus(7, merit=1.0)
    rank = [ThreadRank()(thread) for thread in corpus]
    measured = text_correlation(corpus, {"log": [log_scores(thread) for thread in corpus], "thread_rank": rank})
    assert measured is not None
    assert measured.orderings == [["log", "thread_rank"]]
    advice = recommend(measured)
    assert advice.reward == "thread_rank", "it keeps the popularity of threads out"
    assert advice.reasons == ["all rewards that can be had here order replies alike: log, thread_rank"]


def test_the_better_reward_is_recommended_and_no_difference_is_an_answer() -> None:
    corpus = _corpus(8, merit=0.6, early=1.0)
    clean = [log_scores(thread) - np.array([3.0 * (story.delay_s < 3_000) for story in thread]) for thread in corpus]  # type: ignore[operator]
    rank = [ThreadRank()(thread) for thread in corpus]
    measured = text_correlation(corpus, {"thread_rank": rank, "residual": clean})
    assert measured is not None
    advice = recommend(measured)
    assert advice.reward == "residual"
    assert advice.reasons == ["text predicts residual better than thread_rank"]
    figures = measured.figures()
    assert [row["rewards"] for row in figures["orderings"]] == [["residual"], ["thread_rank"]]
    assert figures["orderings"][1]["behind_low"] > 0
    generator = np.random.default_rng(9)
    noisy = [values + generator.normal(size=len(values)) for values in rank]
    undecided = text_correlation(corpus[:24], {"thread_rank": rank[:24], "residual": noisy[:24]})
    silent = recommend(undecided)
    assert silent.reward is None
    assert silent.reasons[0].startswith("no difference can be told")


def test_of_too_little_nothing_is_recommended() -> None:
    corpus = _corpus(10, merit=1.0, threads=12)
    rewards = {"karma": [log_scores(thread) for thread in corpus]}
    assert recommend(text_correlation(corpus, rewards)).reasons == ["too few to tell: 12 threads with two replies, 20 are needed"]
    assert text_correlation(corpus[:4], {"karma": rewards["karma"][:4]}) is None
    assert text_correlation([thread[:1] for thread in corpus], {"karma": [one[:1] for one in rewards["karma"]]}) is None
    assert recommend(None).reward is None
    assert recommend(_measured(_corpus(1))).reasons == ["text is not shown to predict any reward here"]


def test_memory_is_bounded_by_a_draw_of_whole_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REPLIES", 200)
    measured = _measured(_corpus(11, merit=1.0))
    assert measured.replies == 200
    assert measured.threads == 25
    features = text_features(["a word", ""], ["[WP] a word"], np.array([0, 0]))
    assert features.shape == (2, FEATURES + 3)
    assert features.dtype == np.float32


def test_splines_take_out_any_smooth_relation_and_do_without_values() -> None:
    values = np.random.default_rng(0).exponential(size=300)
    group = np.repeat(np.arange(30), 10)
    target = between_threads_removed(np.log(values)[:, None], group)
    columns = between_threads_removed(splines(values), group)
    left = target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
    assert left.var() < 0.05 * target.var()
    values[::3] = np.nan
    assert np.isfinite(splines(values)).all()
    assert np.isfinite(splines(np.full(9, 2.0))).all()

"""Rewards of scores: each shaping by its equation, in order, fitted on what the ones before it leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rfr.errors import UserError
from rfr.evaluate.within_prompts import correlation, log_words, slope
from rfr.rollouts.reward_shaping import RewardShaping
from rfr.rollouts.round_stories import RoundStories, load_round, save_round
from rfr.rollouts.shaping import CutOffPenalty, KLPenalty, LengthControl, Standardise

PROMPTS, STORIES = 30, 8


def _stories(seed: int = 0, length_effect: float = 3.0) -> RoundStories:
    """Stories whose score goes with their length."""
    generator, count = np.random.default_rng(seed), PROMPTS * STORIES
    texts, levels = ["w " * int(generator.integers(5, 120)) for _ in range(count)], generator.normal(0, 9, PROMPTS)
    score = 10 + length_effect * log_words(texts) + generator.normal(size=count) + np.repeat(levels, STORIES)
    ids = [np.arange(len(text.split()), dtype=np.int32) for text in texts]
    zeros = np.zeros(count)
    return RoundStories(
        prompts=[f"p{number // STORIES}" for number in range(count)], texts=texts, numbers=np.arange(count) % STORIES,
        prompt_ids=ids, ids=ids, logprobs=[one.astype(np.float32) for one in ids], ended=generator.random(count) < 0.7,
        policy_logprob=-generator.uniform(50, 60, count), start_logprob=-generator.uniform(50, 60, count), drawn_logprob=zeros,
        reference_logprob=zeros, kl=zeros, entropy=zeros, score=score, by_judge={"runs/a/model": score, "b": -score},
        quality=zeros, watch=np.full(count, np.nan), reward=score, weight=zeros,
    )  # fmt: skip


def _fitted(*shapings: object, start: RoundStories | None = None, shuffle: bool = False) -> RewardShaping:
    shaping = RewardShaping({str(number): one for number, one in enumerate(shapings)}, shuffle, 0)  # type: ignore[misc]
    people = [(f"q{number // 4}", "v " * (5 + 7 * (number % 9))) for number in range(200)]
    shaping.fit(people, start or _stories(), lambda texts: np.array([4 + 2.0 * np.log1p(len(text.split())) for _, text in texts]))
    return shaping


def test_length_control_takes_out_what_length_explains() -> None:
    stories = _stories(1)
    lengths = log_words(stories.texts)
    for share in (0.0, 0.5, 1.0):
        rewards = _fitted(LengthControl(share))(stories)
        assert slope(rewards, lengths, stories.prompts) == pytest.approx(3 * (1 - share), abs=0.4)


def test_length_control_is_fitted_on_what_comes_before_it() -> None:
    """The slope was that of scores, taken from rewards in standard deviations."""
    stories = _stories(1)
    rewards = _fitted(Standardise(), LengthControl(1.0), start=stories)(stories)
    assert correlation(rewards, log_words(stories.texts), stories.prompts) == pytest.approx(0, abs=1e-9)


def test_a_fit_does_not_depend_on_rewards_that_a_file_holds() -> None:
    """A resumed run reads the start's stories with the rewards that they got."""
    start = _stories(2)
    again = replace(start, reward=_fitted(Standardise(), LengthControl(1.0), start=start)(start))
    one, other = (_fitted(Standardise(), LengthControl(1.0), start=stories) for stories in (start, again))
    np.testing.assert_array_equal(one(_stories(3)), other(_stories(3)))


def test_people_get_the_mean_0_and_the_standard_deviation_1() -> None:
    scores = np.array([4 + 2.0 * np.log1p(5 + 7 * (number % 9)) for number in range(200)])
    stories = _stories(1)
    np.testing.assert_allclose(_fitted(Standardise(200))(stories), (stories.score - scores.mean()) / scores.std())


def test_costs_are_those_of_their_stories_however_scores_are_shuffled() -> None:
    stories = _stories(1)
    shapings = (CutOffPenalty(2.0), KLPenalty(0.1))
    rewards = _fitted(*shapings)(stories)
    kl = 0.1 * (stories.policy_logprob - stories.start_logprob)
    np.testing.assert_allclose(rewards, stories.score - 2.0 * ~stories.ended - kl)
    control = _fitted(*shapings, shuffle=True)
    np.testing.assert_allclose(control(stories), rewards, err_msg="what is only looked at is not shuffled")
    shuffled = control(stories, 3)
    of_score, before = ((values + kl).reshape(PROMPTS, STORIES) for values in (shuffled, rewards))
    np.testing.assert_allclose(np.sort(of_score), np.sort(before))
    assert (of_score != before).any(axis=1).mean() > 0.9
    np.testing.assert_array_equal(control(stories, 3), shuffled)
    assert (control(stories, 4) != shuffled).any()


def test_a_round_is_read_as_it_was_written(tmp_path: Path) -> None:
    stories = _stories()
    save_round(stories, tmp_path / "rounds" / "learned-0001.parquet", 1)
    again = load_round(tmp_path / "rounds" / "learned-0001.parquet")
    for name, value in vars(stories).items():
        if name == "by_judge":
            assert value.keys() == again.by_judge.keys()
            assert all((value[judge] == again.by_judge[judge]).all() for judge in value)
        elif name in ("prompt_ids", "ids", "logprobs"):
            assert all((one == other).all() for one, other in zip(value, getattr(again, name), strict=True))
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(again, name), err_msg=name)
        else:
            assert value == getattr(again, name)
    (tmp_path / "half.parquet").write_bytes((tmp_path / "rounds" / "learned-0001.parquet").read_bytes()[:500])
    with pytest.raises(UserError, match=r"half\.parquet is damaged"):
        load_round(tmp_path / "half.parquet")

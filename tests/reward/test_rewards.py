"""Rewards: within a thread, blind to the order of listing, defined for ties, lone replies and what is not known."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from rfr.data.prepare import Prepared
from rfr.data.replies import thread_stories
from rfr.demo.grammar import true_quality
from rfr.demo.oracle import Oracle, OracleResidual
from rfr.demo.subreddit import DemoSubreddit, KarmaModel
from rfr.errors import UserError
from rfr.records import Story
from rfr.reward.adjusted import AdjustedRank
from rfr.reward.base import ReplyThread, log_scores, zscores
from rfr.reward.confounders import NAMES, confounders, delays_s
from rfr.reward.karma import Karma, LogKarma
from rfr.reward.quantile import Quantile, Tiers
from rfr.reward.residual import Residual
from rfr.reward.thread import ThreadRank, ThreadZscore

SCORES = [3, -2, 40, 40, 1500, 0]
THREAD = [
    Story(thread_id="t", reply_id=str(i), prompt="[WP] A.", response="x", score=s, delay_s=600.0 * (i + 1))
    for i, s in enumerate(SCORES)
]  # fmt: skip
RELATIVE: list[Callable[[], Any]] = [ThreadRank, ThreadZscore, AdjustedRank]
OF_KARMA: list[Callable[[], Any]] = [Karma, LogKarma, ThreadRank, ThreadZscore, lambda: Quantile(Karma()), lambda: Tiers(Karma())]
FITTED: list[Callable[[], Any]] = [
    AdjustedRank, lambda: Residual(iterations=20), lambda: Quantile(Residual(iterations=20)), lambda: Tiers(AdjustedRank()),
]  # fmt: skip


OF_THE_DEMO: list[Callable[[], Any]] = [Oracle, lambda: OracleResidual(KarmaModel(), draws=20)]


def _by_reply(reward: Any, threads: Sequence[ReplyThread]) -> dict[str, float]:
    return {story.reply_id: value for thread in threads for story, value in zip(thread, reward(thread), strict=True)}


@pytest.mark.parametrize("make", [*OF_KARMA, *FITTED, *OF_THE_DEMO])
def test_the_order_of_listing_is_not_looked_at(make: Callable[[], Any], prepared: Prepared) -> None:
    """Neither that of the replies of a thread, nor that of the threads."""
    listed = [sorted(thread, key=lambda story: -(story.score or 0)) for thread in prepared.train.threads]  # as Reddit lists them
    shuffled = [[thread[i] for i in np.random.default_rng(0).permutation(len(thread))] for thread in reversed(listed)]
    one, other = make(), make()
    one.fit(listed)
    other.fit(shuffled)
    by_reply = _by_reply(one, listed)
    assert by_reply == pytest.approx(_by_reply(other, shuffled), rel=1e-9, abs=1e-9)
    assert len(set(by_reply.values())) >= 3


@pytest.mark.parametrize("make", OF_KARMA)
def test_more_karma_never_means_less_reward(make: Callable[[], Any]) -> None:
    reward = make()
    reward.fit([THREAD])
    values = reward(THREAD)
    assert (np.diff(values[np.argsort(SCORES)]) >= 0).all()
    assert values[2] == values[3]


@pytest.mark.parametrize("make", RELATIVE)
def test_another_threads_karma_is_no_matter(make: Callable[[], Any], prepared: Prepared) -> None:
    threads = prepared.train.threads
    doubled = [threads[0], *([replace(story, score=2 * (story.score or 0)) for story in thread] for thread in threads[1:])]
    one, other = make(), make()
    one.fit(threads)
    other.fit(doubled)
    assert np.array_equal(one(threads[0]), other(threads[0]))


@pytest.mark.parametrize("make", RELATIVE)
def test_lone_replies_and_ties(make: Callable[[], Any]) -> None:
    reward = make()
    reward.fit([THREAD])
    assert abs(reward(THREAD).mean()) < 1e-12
    assert reward(THREAD[:1]) == 0
    assert (reward([replace(story, score=7, delay_s=60.0) for story in THREAD]) == 0).all()


@pytest.mark.parametrize("make", [*OF_KARMA, *FITTED, *OF_THE_DEMO])
def test_rewards_are_pickled_with_what_they_were_fitted_on(make: Callable[[], Any], prepared: Prepared) -> None:
    reward = make()
    reward.fit(prepared.train.threads)
    thread = prepared.validation.threads[0]
    assert np.array_equal(pickle.loads(pickle.dumps(reward))(thread), reward(thread))


def test_hidden_scores_end_in_one_line() -> None:
    with pytest.raises(UserError, match="stories without karma"):
        ThreadRank()([*THREAD, replace(THREAD[0], score=None)])


def test_log_karma_is_standardised_on_the_training_replies() -> None:
    reward = LogKarma()
    reward.fit([THREAD])
    assert np.isclose(reward(THREAD).mean(), 0)
    assert np.isclose(reward(THREAD).std(), 1)


def test_adjusted_rank_mixes_rank_and_time() -> None:
    reward = AdjustedRank(time_share=0.25)
    reward.fit([THREAD])
    ranks, times = zscores(np.array([3.0, 1.0, 4.5, 4.5, 6.0, 2.0])), zscores(np.arange(6.0))
    assert np.allclose(reward(THREAD), 0.75 * ranks + 0.25 * times)


def test_the_fitted_mix_no_longer_goes_with_the_time(prepared: Prepared) -> None:
    reward, threads = AdjustedRank(), prepared.train.threads
    reward.fit(threads)
    assert 0.1 < reward.time_share < 0.5
    times = np.concatenate([zscores(delays_s(thread)) for thread in threads])
    rewards = np.concatenate([reward(thread) for thread in threads])
    assert abs(rewards @ times) < 1e-6 < 0.1 * len(times) < -sum(zscores(log_scores(t)) @ zscores(delays_s(t)) for t in threads)


def test_a_time_that_is_not_known_is_an_average_one() -> None:
    some = [replace(THREAD[0], delay_s=None), *THREAD[1:]]
    reward = AdjustedRank(time_share=1.0)
    reward.fit([some])
    assert reward(some)[0] == 0
    assert np.allclose(reward(some)[1:], zscores(np.arange(5.0)))


@pytest.mark.parametrize("make", [AdjustedRank, Residual, lambda: Tiers(AdjustedRank()), lambda: Quantile(Residual())])
def test_without_times_another_reward_is_named(make: Callable[[], Any]) -> None:
    timeless = [[replace(story, thread_id=str(n), delay_s=None) for story in THREAD] for n in range(9)]
    with pytest.raises(UserError, match=r"needs the times of the replies, and 100% .* reward=thread_rank does without"):
        make().fit(timeless)


def test_confounders_are_what_their_names_say() -> None:
    story = Story(thread_id="t", reply_id="a", prompt="p", response="one two three", score=5, post_score=70, delay_s=7200.0,
                created_utc=86_400.0 * 3 + 3600 * 5, score_age_s=86_400.0 * 2)  # fmt: skip
    earlier = replace(story, reply_id="b", delay_s=60.0, post_score=None)
    columns = confounders([story, earlier, replace(story, reply_id="c", delay_s=None)])
    assert len(NAMES) == columns.shape[1]
    assert columns[0].tolist() == [2.0, 2.0, 70.0, 3.0, 5.0, 3.0, 2.0]
    assert columns[1, 1] == 1
    assert np.isnan(columns[1, 2])
    assert np.isnan(columns[2, :2]).all()


def test_a_threads_karma_has_no_part_in_what_is_expected_of_it(prepared: Prepared) -> None:
    """Out of fold: other threads' karma moves the expectation, the thread's own does not."""
    threads = prepared.train.threads

    def expected(of: ReplyThread, fitted_on: Sequence[ReplyThread]) -> np.ndarray:
        reward = Residual(iterations=20)
        reward.fit(fitted_on)
        return log_scores(of) - reward(of) * reward.deviation

    raised = [[replace(story, score=(story.score or 0) + 1000) for story in thread] for thread in threads]
    before = expected(threads[0], threads)
    np.testing.assert_allclose(expected(raised[0], [raised[0], *threads[1:]]), before, rtol=1e-9)
    assert (expected(threads[0], [threads[0], *raised[1:]]) > before + 1).all()


def test_residuals_find_more_of_the_true_quality_than_karma() -> None:
    listed = ([story for story, reason in thread_stories(thread) if reason is None] for thread in DemoSubreddit(threads=200))
    threads = [thread for thread in listed if len(thread) > 5]
    residual = Residual()
    residual.fit(threads)

    def together(reward: Callable[[ReplyThread], np.ndarray], other: Callable[[ReplyThread], np.ndarray]) -> float:
        return float(np.mean([spearmanr(reward(thread), other(thread)).statistic for thread in threads]))

    def quality(thread: ReplyThread) -> np.ndarray:
        return np.array([true_quality(story.prompt, story.response) for story in thread])

    assert len(threads) > 150
    assert together(residual, quality) > together(log_scores, quality) + 0.03
    assert together(log_scores, delays_s) < -0.2 < -0.1 < together(residual, delays_s)


def test_a_quantile_is_the_share_of_training_replies_below() -> None:
    reward = Quantile(Karma())
    reward.fit([THREAD])
    assert np.allclose(reward(THREAD), [2.5 / 6, 0.5 / 6, 4 / 6, 4 / 6, 5.5 / 6, 1.5 / 6])
    assert reward([replace(THREAD[0], score=10**6), replace(THREAD[0], score=-(10**6))]).tolist() == [1, 0]


def test_tiers_are_thirds_of_the_training_replies() -> None:
    reward = Tiers(Karma())
    reward.fit([THREAD])
    assert reward(THREAD).tolist() == [0, -1, 1, 1, 1, -1]
    halves = Tiers(Karma(), cuts=[0.5])
    halves.fit([THREAD])
    assert halves(THREAD).tolist() == [-1, -1, 1, 1, 1, -1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdjustedRank(time_share=1.5), "time_share must lie between 0 and 1"),
        (lambda: Residual(folds=1), "folds must be 2 or more"),
        (lambda: Tiers(Karma(), cuts=[0.6, 0.4]), "cuts must rise"),
        (lambda: Tiers(Karma(), cuts=[]), "cuts must rise"),
        (lambda: Tiers(Karma(), cuts=[1.0]), "cuts must rise"),
    ],
)
def test_bad_settings(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_too_few_threads_for_the_folds() -> None:
    with pytest.raises(UserError, match=r"there are 1: lower reward.folds, or take reward=thread_rank"):
        Residual().fit([THREAD])


def test_the_oracle_knows_the_demo_only(prepared: Prepared) -> None:
    oracle = Oracle()
    oracle.fit(prepared.train.threads)
    assert np.isclose(np.concatenate([oracle(thread) for thread in prepared.train.threads]).std(), 1)
    for make in OF_THE_DEMO:
        with pytest.raises(UserError, match="reward=thread_rank"):
            make().fit([THREAD])
    with pytest.raises(UserError, match="choose corpus=demo"):
        OracleResidual(None).fit(prepared.train.threads)


def test_the_oracle_of_karma_expects_what_the_model_gives(prepared: Prepared) -> None:
    """Over many stories its rewards are standard, and they go with neither time nor length."""
    reward, threads = OracleResidual(KarmaModel()), [t for t in prepared.train.threads if len(t) > 5]
    reward.fit(threads)
    rewards = np.concatenate([reward(thread) for thread in threads])
    assert abs(rewards.mean()) < 4 / np.sqrt(len(rewards))
    assert rewards.std() == pytest.approx(1, abs=0.15)
    assert abs(spearmanr(rewards, np.concatenate([delays_s(thread) for thread in threads])).statistic) < 0.12

"""Rewards: within a thread, permutation-proof, defined for ties and lone replies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rfr.data.prepare import Prepared
from rfr.errors import UserError
from rfr.records import Pair
from rfr.reward.karma import Karma, LogKarma
from rfr.reward.oracle import Oracle
from rfr.reward.thread import ThreadRank, ThreadZscore

SCORES = [3, -2, 40, 40, 1500, 0]
THREAD = [Pair(thread_id="t", reply_id=str(i), prompt="[WP] A.", response="x", score=s) for i, s in enumerate(SCORES)]
ALL = [Karma, LogKarma, ThreadRank, ThreadZscore]


@pytest.mark.parametrize("make", ALL)
def test_a_permutation_permutes_the_rewards(make: type) -> None:
    reward = make()
    reward.fit([THREAD])
    order = [4, 1, 5, 0, 3, 2]
    assert np.allclose(reward([THREAD[i] for i in order]), reward(THREAD)[order])


@pytest.mark.parametrize("make", ALL)
def test_more_karma_never_means_less_reward(make: type) -> None:
    reward = make()
    reward.fit([THREAD])
    values = reward(THREAD)
    assert (np.diff(values[np.argsort(SCORES)]) >= 0).all()
    assert values[2] == values[3]


@pytest.mark.parametrize("make", [ThreadRank, ThreadZscore])
def test_thread_rewards_ignore_other_threads_and_the_threads_level(make: type) -> None:
    alone, beside = make(), make()
    alone.fit([THREAD])
    beside.fit([THREAD, [replace(pair, thread_id="u", score=1000 * (pair.score or 0)) for pair in THREAD]])
    assert np.array_equal(alone(THREAD), beside(THREAD))
    assert abs(alone(THREAD).mean()) < 1e-12
    assert alone(THREAD[:1]) == 0
    assert (alone([replace(pair, score=7) for pair in THREAD]) == 0).all()


def test_log_karma_is_standardised_on_the_training_replies() -> None:
    reward = LogKarma()
    reward.fit([THREAD])
    assert np.isclose(reward(THREAD).mean(), 0)
    assert np.isclose(reward(THREAD).std(), 1)


def test_the_oracle_knows_the_demo_only(prepared: Prepared) -> None:
    oracle = Oracle()
    oracle.fit(prepared.train.threads)
    assert np.isclose(np.concatenate([oracle(thread) for thread in prepared.train.threads]).std(), 1)
    with pytest.raises(UserError, match="reward=thread_rank"):
        Oracle().fit([THREAD])

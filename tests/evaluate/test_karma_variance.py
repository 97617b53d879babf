"""What karma is made of: shares that follow the causes, on corpora whose causes are known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rfr.data.replies import scored_stories
from rfr.demo.subreddit import DemoSubreddit, KarmaModel
from rfr.evaluate.correlation import over_all, within_threads
from rfr.evaluate.karma_variance import ADDED, FEW_READINGS, FUZZING, REST, correlations, variance_shares, with_true_quality
from rfr.records import Observation, Reply, Story
from rfr.report.karma_page import karma_page
from rfr.reward.base import log_scores
from rfr.reward.confounders import NAMES
from rfr.store.store import Store


def _corpus(seed: int, *, thread: float = 0.0, delay: float = 0.0, length: float = 0.0, noise: float = 1.0) -> list[list[Story]]:
    """Log karma as a sum of causes of unit variance, so that their shares are known."""
    generator = np.random.default_rng(seed)
    threads = []
    for number in range(150):
        size, common = int(generator.integers(3, 14)), generator.normal()
        times, lengths, luck = (generator.normal(size=size) for _ in range(3))
        y = 5 + thread * common + delay * times + length * lengths + noise * luck
        threads.append([
            Story(
                thread_id=str(number), reply_id=f"{number}-{i}", prompt="p", response="w " * int(100 * np.exp(0.4 * lengths[i])),
                score=int(np.expm1(max(0.0, y[i]))), post_score=10, delay_s=3600 * float(np.exp(times[i])), created_utc=0.0,
                score_age_s=1.0,
            )
            for i in range(size)
        ])  # fmt: skip
    return threads


def test_shares_follow_the_causes() -> None:
    shares = variance_shares(_corpus(0, thread=1.0, delay=1.0, length=1.0))
    assert sum(share for share in shares.values() if share) == pytest.approx(1)
    assert list(shares) == ["thread", *ADDED, FUZZING, "counting noise", REST]
    for name in ("thread", "delay", "length", REST):
        assert shares[name] == pytest.approx(0.25, abs=0.06), name
    assert abs(shares["hour of the day"] or 0.0) < 0.01


@pytest.mark.parametrize(("cause", "name"), [("thread", "thread"), ("delay", "delay"), ("length", "length")])
def test_a_confounder_without_effect_has_no_share(cause: str, name: str) -> None:
    assert (variance_shares(_corpus(1))[name] or 0.0) < 0.03
    assert (variance_shares(_corpus(1, **{cause: 1.0}))[name] or 0.0) > 0.35


def test_small_threads_are_no_evidence_of_popularity() -> None:
    """The means of two replies each vary by luck alone; that is not the thread's share."""
    twos = [thread[:2] for thread in _corpus(2)]
    assert np.var([log_scores(thread).mean() for thread in twos]) > 0.3 * np.var(np.concatenate([log_scores(t) for t in twos]))
    assert (variance_shares(twos)["thread"] or 0.0) < 0.15


def test_herding_shows_as_a_head_start() -> None:
    def head_start(herding: float) -> float:
        demo = DemoSubreddit(threads=150, karma=replace(KarmaModel(), herding=herding))
        return variance_shares(scored_stories(demo, lambda story: story))["head start (herding)"] or 0.0

    assert head_start(0.75) > head_start(0.0) + 0.01


def test_vote_fuzzing_shows_where_settled_scores_are_read_again() -> None:
    """Two readings of y that each err by sigma: the share is sigma^2 over the variance of y."""
    threads, generator, sigma = _corpus(7), np.random.default_rng(7), 0.4
    y = generator.normal(5, 1, size=4000)
    read_again = [tuple(np.expm1(value + sigma * generator.normal(size=2)).round().astype(int).tolist()) for value in y]
    shares = variance_shares(threads, read_again)
    whole = np.concatenate([log_scores(thread) for thread in threads])
    assert shares[FUZZING] == pytest.approx(sigma**2 / whole.var(), rel=0.1)
    assert sum(share for share in shares.values() if share) == pytest.approx(1)
    assert variance_shares(threads, [(7, 7)] * FEW_READINGS)[FUZZING] == 0
    assert variance_shares(threads, read_again[: FEW_READINGS - 1])[FUZZING] is None


def test_scores_read_again_are_those_of_old_replies(tmp_path: Path) -> None:
    reply = Reply(id="t1_a", post_id="t3_p", body="b", author=None, created_utc=1000.0)
    young = replace(reply, id="t1_b", created_utc=1900.0)
    readings = [("t1_a", 1050.0, "api", 3), ("t1_a", 1900.0, "api", 8), ("t1_a", 2000.0, "api", 9), ("t1_a", 2100.0, "api", 7),
                ("t1_a", 2050.0, "dump", 8), ("t1_b", 2000.0, "api", 1), ("t1_b", 2100.0, "api", 2)]  # fmt: skip
    with Store(tmp_path / "s.db", write=True) as store:
        store.add(
            [reply, young, *(Observation(kind="reply", item_id=i, seen_at=t, source=s, score=k) for i, t, s, k in readings)]
        )
        store.add([Observation(kind="reply", item_id="t1_a", seen_at=2080.0, source="api", score=1, hidden=True)])
        assert sorted(store.read_again(500)) == [(8, 9), (9, 7)]
        assert store.read_again(1e9) == []


def test_without_times_their_shares_are_not_to_be_had() -> None:
    timeless = [[replace(story, delay_s=None, created_utc=None) for story in thread] for thread in _corpus(3, length=1.0)]
    shares = variance_shares(timeless)
    assert [name for name, share in shares.items() if share is None] == [
        "delay",
        "head start (herding)",
        "hour of the day",
        FUZZING,
    ]
    assert (shares["length"] or 0.0) > 0.35


def test_too_few_threads_have_no_shares() -> None:
    assert variance_shares(_corpus(5)[:4]) == {}
    assert variance_shares([]) == {}
    assert variance_shares([[replace(story, score=3) for story in thread] for thread in _corpus(5)]) == {}


def test_correlations_leave_out_what_does_not_differ() -> None:
    threads = _corpus(6, delay=-1.0)
    rows = correlations(threads, {"karma": [log_scores(thread) for thread in threads]})
    by_name = {row["confounder"]: row for row in rows}
    assert list(by_name) == list(NAMES)
    assert by_name["delay (hours)"]["within"] == pytest.approx(-0.66, abs=0.06)
    assert by_name["post's score"]["within"] is None
    assert by_name["post's score"]["over_all"] is None
    assert by_name["delay (hours)"]["within_low"] < by_name["delay (hours)"]["within"] < by_name["delay (hours)"]["within_high"]  # type: ignore[operator]
    assert by_name["thread's size"]["within"] is None
    assert by_name["thread's size"]["over_all"] is not None


def test_correlations_within_and_over_all_can_disagree() -> None:
    rise = [np.arange(6.0), np.arange(6.0) + 100]
    fall = [np.arange(6.0)[::-1], np.arange(6.0)[::-1] + 100]
    assert within_threads(rise, fall).tolist() == pytest.approx([-1, -1])
    assert over_all(rise, fall) > 0.4
    assert len(within_threads([np.arange(3.0)], [np.arange(3.0)])) == 0
    assert np.isnan(over_all([np.ones(9)], [np.arange(9.0)]))
    holes = [np.array([0.0, 1, 2, 3, 4, np.nan])], [np.array([0.0, 1, 2, 3, 4, -9])]
    assert within_threads(*holes).tolist() == pytest.approx([1])


def test_the_command_leaves_a_report(command: Callable[..., tuple[int, str, str]], demo_store: Path, tmp_path: Path) -> None:
    rewards = ["reward@rewards.quantile=quantile"]
    code, out, err = command(
        "evaluate", "report=karma", f"corpus.path={demo_store}", f"out={tmp_path / 'out'}",
        "rewards.residual.iterations=20", *[f"+{reward}" for reward in rewards],
    )  # fmt: skip
    assert code == 0, err
    assert "head start (herding)" in out
    assert re.search(r"Karma is a reward here.*\(0\.\d+ to 0\.\d+\)", out)
    report = json.loads((tmp_path / "out" / "karma.json").read_text())
    assert {row["reward"] for row in report["correlations"]} == {
        "karma",
        "log_karma",
        "thread_rank",
        "thread_zscore",
        "adjusted_rank",
        "tiers",
        "residual",
        "quantile",
    }
    page = (tmp_path / "out" / "karma.html").read_text()
    assert page == karma_page(report)
    assert page.count("<rect") == 2 * len(report["variance_shares"])
    alike = next(row["rewards"] for row in report["text"]["orderings"] if "thread_rank" in row["rewards"])
    assert set(alike) == {"thread_rank", "karma", "log_karma", "thread_zscore", "quantile"}, "they order every thread alike"
    assert "http" not in page


def test_the_true_quality_is_recovered_the_better_the_more_of_it_a_reward_holds() -> None:
    threads = [[replace(story, response=f"{story.score} words") for story in thread] for thread in _corpus(8)]

    def quality(prompt: str, response: str) -> float:
        return float(response.split()[0])

    generator = np.random.default_rng(8)
    karma = [log_scores(thread) for thread in threads]
    noisy = [values + 2 * generator.normal(size=len(values)) for values in karma]
    rows = {row["reward"]: row for row in with_true_quality(threads, {"karma": karma, "noisy": noisy}, quality)}
    assert rows["karma"]["within"] == pytest.approx(1)
    assert 0 < rows["noisy"]["low"] < rows["noisy"]["within"] < rows["noisy"]["high"] < 1  # type: ignore[operator]


@pytest.mark.parametrize(("arguments", "message"), [
    (("evaluate", "report=watch"), "Could not find 'report/watch'"),
    (("collect", "mode=karma"), "Could not find 'mode/karma'"),
    (("evaluate", "report=karma", "report._target_=os.system"), "os.system is refused"),
])  # fmt: skip
def test_a_mode_of_another_command(
    command: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = command(*arguments)
    assert code == 2
    assert message in err

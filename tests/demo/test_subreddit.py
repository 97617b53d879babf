"""The demo subreddit: deterministic, collected by the real collector, calibrated to the real corpus."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.stats import spearmanr

from rfr.data.clean.cleaner import clean_story
from rfr.demo.grammar import true_quality
from rfr.demo.source import build_demo_store
from rfr.demo.subreddit import DemoSubreddit, KarmaModel, TextTraps
from rfr.records import Thread
from rfr.store.store import Store
from tests.conftest import ROOT


def test_same_seed_same_store(tmp_path: Path, demo_store: Path) -> None:
    build_demo_store(tmp_path / "again.db", DemoSubreddit(threads=40))
    build_demo_store(tmp_path / "other.db", DemoSubreddit(threads=40, seed=1))
    with Store(demo_store) as first, Store(tmp_path / "again.db") as again, Store(tmp_path / "other.db") as other:
        assert first.digest() == again.digest()
        assert first.digest() != other.digest()


def test_the_collector_finds_every_reply(demo_store: Path) -> None:
    """Threads above the fake server's tree cap go through `more` and /api/info."""
    written = {thread.post.id: thread for thread in DemoSubreddit(threads=40)}
    assert max(len(thread.replies) for thread in written.values()) > 25
    with Store(demo_store) as store:
        collected = list(store.threads())
    assert len(collected) == 40
    for thread in collected:
        original = written[thread.post.id]
        assert {r.id: r.body for r in thread.replies} == {r.id: r.body for r in original.replies}
        assert thread.post_observation is not None
        assert original.post_observation is not None
        assert thread.post_observation.score == original.post_observation.score
        assert {i: o.score for i, o in thread.observations.items()} == {i: o.score for i, o in original.observations.items()}


def test_the_config_holds_the_defaults() -> None:
    written = OmegaConf.load(ROOT / "conf" / "corpus" / "demo.yaml").demo
    assert {key: value for key, value in written.karma.items() if key != "_target_"} == asdict(KarmaModel())
    assert (written.threads, written.seed) == (DemoSubreddit().threads, DemoSubreddit().seed)


def _threads(karma: KarmaModel) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per thread: scores, true qualities, delays of the stories that are still there."""
    threads = []
    for thread in DemoSubreddit(threads=150, karma=karma):
        replies = [r for r in thread.replies if r.author and not r.stickied]
        scores = np.array([thread.observations[r.id].score for r in replies])
        qualities = np.array([true_quality(thread.post.title, r.body) for r in replies])
        delays = np.array([(r.created_utc or 0) - (thread.post.created_utc or 0) for r in replies])
        threads.append((scores, qualities, delays))
    return threads


def _within(threads: list[tuple[np.ndarray, np.ndarray, np.ndarray]], cause: int) -> float:
    return float(np.nanmean([spearmanr(t[0], t[cause]).statistic for t in threads if len(t[0]) > 5]))


def test_karma_follows_quality_but_not_only() -> None:
    threads = _threads(KarmaModel())
    assert 0.2 < _within(threads, 1) < 0.5
    assert _within(threads, 2) < -0.3  # late replies get less


def test_each_cause_can_be_switched_off() -> None:
    blind = _threads(replace(KarmaModel(), quality_effect=0.0))
    assert abs(_within(blind, 1)) < 0.08
    assert _within(_threads(replace(KarmaModel(), noise=0.0)), 1) > _within(_threads(KarmaModel()), 1)


def test_karma_has_the_real_corpus_shape(shared_data: Path) -> None:
    """Score quantiles and thread sizes within a factor of 2 of the real ones."""
    real = defaultdict(list)
    with gzip.open(shared_data / "writingprompts.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            real[row["post_id"]].append(row["score"])
    ours = [t[0] for t in _threads(KarmaModel())]
    levels = [0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
    for mine, theirs in (
        (np.concatenate(ours), np.concatenate(list(real.values()))),
        (np.array([len(t) for t in ours]), np.array([len(t) for t in real.values()])),
    ):
        ratio = np.quantile(mine, levels) / np.quantile(theirs, levels)
        assert (ratio > 0.5).all(), ratio
        assert (ratio < 2).all(), ratio


def test_the_text_traps_are_off_by_default_and_change_the_text_alone() -> None:
    """Early stories are shorter and plainer; notes of thanks go to the best, and the cleaner cuts them."""
    plain, hurried, thankful = (
        list(DemoSubreddit(threads=40, text=text)) for text in (TextTraps(), TextTraps(hurry=1.0), TextTraps(thanks=1.0))
    )
    assert plain == list(DemoSubreddit(threads=40))

    def words(threads: list[Thread], *, first: bool) -> float:
        stories = [sorted(thread.replies, key=lambda reply: reply.created_utc or 0.0) for thread in threads]
        told = [[reply for reply in thread if reply.author not in (None, "AutoModerator")] for thread in stories]
        return float(np.mean([len(thread[0 if first else -1].body.split()) for thread in told if len(thread) > 3]))

    assert words(hurried, first=True) < 0.7 * words(plain, first=True)
    assert words(hurried, first=False) == pytest.approx(words(plain, first=False), rel=0.2)
    noted = 0
    for before, after in zip(plain, thankful, strict=True):
        assert before.observations == after.observations, "the votes are the same"
        for reply, thanked in zip(before.replies, after.replies, strict=True):
            noted += reply.body != thanked.body
            if reply.body != thanked.body:
                assert thanked.body.startswith(reply.body)
                assert clean_story(thanked.body) == clean_story(reply.body)
    assert noted > 100

"""The passes over a subreddit that asks for nothing twice: refresh by age, watch in accelerated time, backfill."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rfr.demo.fake_reddit import FakeReddit
from rfr.demo.loopback import fake_login
from rfr.demo.subreddit import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.records import Observation, Reply, Thread
from rfr.reddit.backlog import TRIES, changed_threads, due, orphaned_posts
from rfr.reddit.client import connect
from rfr.reddit.clock import Clock, FastClock, FixedClock
from rfr.reddit.crawler import Crawler
from rfr.reddit.passes import LISTINGS, backfill, crawl_once, refresh, until_stopped, watch
from rfr.store.store import Store

THREADS = list(DemoSubreddit(threads=40))
ITEMS = sum(1 + len(thread.replies) for thread in THREADS)
HOUR, DAY = 3600.0, 86400.0
AGES = (2 * HOUR, 36 * HOUR, 7 * DAY, 30 * DAY)
LONG_AFTER = EPOCH + 400 * DAY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.db", write=True)


def _run(fake: FakeReddit, store: Store, clock: Clock, work: Callable[[Crawler], Awaitable[None]]) -> None:
    async def run() -> None:
        async with fake.serve() as url, connect(clock, **fake_login(url)) as client:
            await work(Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=clock))

    asyncio.run(run())


def _infos(fake: FakeReddit) -> int:
    return sum(path.startswith("/api/info") for path in fake.requests)


def _read_at(fake: FakeReddit, store: Store, now: float) -> int:
    """A refresh at this time; how many requests it took."""
    before = _infos(fake)
    _run(fake, store, FixedClock(now), lambda crawler: refresh(crawler, AGES))
    return _infos(fake) - before


def test_a_score_is_read_once_at_every_age_and_never_in_between(store: Store) -> None:
    last = max(thread.post.created_utc or 0 for thread in THREADS)
    newest = max(reply.created_utc or 0 for thread in THREADS for reply in thread.replies)
    began = newest + 1  # all were there, the youngest a second old
    assert newest > last
    fake = FakeReddit(THREADS)
    _run(fake, store, FixedClock(began), crawl_once)
    readings = [store.counts()["observation"]]
    for age in AGES:
        now = newest + age + 1
        full = math.ceil(len(due(store, SUBREDDIT, AGES, now)) / 100)
        assert full >= 1
        assert _read_at(fake, store, now) == full
        assert _read_at(fake, store, now + 1) == 0  # nothing is due any more
        readings.append(store.counts()["observation"])
    assert readings[-1] - readings[-2] == ITEMS  # at 30 days everything has aged
    assert due(store, SUBREDDIT, AGES, LONG_AFTER) == []


def test_archived_items_are_not_asked_for_again(store: Store) -> None:
    frozen = {item: replace(reading, archived=True) for item, reading in THREADS[0].observations.items()}
    of_post = THREADS[0].post_observation
    assert of_post is not None
    archived = replace(THREADS[0], observations=frozen, post_observation=replace(of_post, archived=True))
    threads: list[Thread] = [archived, *THREADS[1:]]
    fake = FakeReddit(threads)
    _run(fake, store, FixedClock(EPOCH + 40 * DAY / 2), crawl_once)
    names = {item.name for item in due(store, SUBREDDIT, AGES, LONG_AFTER)}
    assert len(names) == ITEMS - len(frozen) - 1
    assert f"t3_{THREADS[0].post.id}" not in names


def test_items_that_reddit_leaves_out_count_as_read(store: Store) -> None:
    fake = FakeReddit(THREADS)
    _run(fake, store, FixedClock(EPOCH + 15 * DAY), crawl_once)
    fake.absent = {THREADS[3].replies[0].id, THREADS[4].replies[0].id}
    _read_at(fake, store, LONG_AFTER)
    assert {item for (item,) in store.rows("SELECT item_id FROM observation WHERE missing")} == fake.absent
    assert due(store, SUBREDDIT, AGES, LONG_AFTER) == []


def test_a_request_waits_for_company_but_not_for_ever(store: Store) -> None:
    fake = FakeReddit(THREADS)
    _run(fake, store, FixedClock(EPOCH + 15 * DAY), crawl_once)
    _run(fake, store, FixedClock(LONG_AFTER), lambda crawler: refresh(crawler, AGES, slack_s=1e9))
    left = due(store, SUBREDDIT, AGES, LONG_AFTER)
    assert len(left) == ITEMS % 100 > 0
    _run(fake, store, FixedClock(LONG_AFTER), lambda crawler: refresh(crawler, AGES, slack_s=HOUR))
    assert due(store, SUBREDDIT, AGES, LONG_AFTER) == []


def test_watching_follows_a_subreddit_as_it_grows(store: Store) -> None:
    """Two days in seconds: posts and replies appear, scores are read as they age, nothing is missed."""
    clock = FastClock(start=EPOCH, speed=20_000)
    fake = FakeReddit(THREADS, clock=clock)
    oldest_due: list[float] = []

    async def two_days(crawler: Crawler) -> None:
        work = asyncio.ensure_future(watch(crawler, every_s=2 * HOUR, limit=1000, ages_s=AGES, slack_s=HOUR))
        while clock.time() < EPOCH + 2 * DAY:
            await clock.sleep(HOUR)
            assert not work.done(), work.exception()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        oldest_due.extend(item.overdue_s for item in due(store, SUBREDDIT, AGES, clock.time()))

    _run(fake, store, clock, two_days)
    posted = [thread for thread in THREADS if (thread.post.created_utc or 0) < EPOCH + 1.5 * DAY]
    assert len(posted) > 30
    assert {thread.post.id for thread in posted} <= {post_id for (post_id,) in store.rows("SELECT id FROM post")}
    assert not store.rows("SELECT * FROM gap")
    twice = store.rows("SELECT item_id FROM observation GROUP BY item_id HAVING count(DISTINCT seen_at) > 2")
    assert len(twice) > 30
    assert max(oldest_due, default=0) < 12 * HOUR


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_watching_in_peace(store: Store, number: int) -> None:
    async def stopped(crawler: Crawler) -> None:
        asyncio.get_running_loop().call_later(1.0, os.kill, os.getpid(), number)
        await until_stopped(watch(crawler, every_s=HOUR, limit=1000, ages_s=AGES, slack_s=0))

    _run(FakeReddit(THREADS), store, FastClock(start=LONG_AFTER, speed=100), stopped)
    assert store.counts()["post"] > 0


def test_backfill_walks_every_listing_once_and_goes_on_where_it_was(store: Store) -> None:
    fake = FakeReddit(THREADS)

    def listings() -> int:
        return sum(path.startswith("/r/") for path in fake.requests)

    class Cut(Exception):
        pass

    async def cut_off(crawler: Crawler) -> None:
        real = crawler.client.get

        async def get(path: str, **params: Any) -> Any:
            if listings() == 9:
                raise Cut
            return await real(path, **params)

        crawler.client.get = get  # type: ignore[method-assign]
        await backfill(crawler)

    with pytest.raises(Cut):
        _run(fake, store, FixedClock(LONG_AFTER), cut_off)
    _run(fake, store, FixedClock(LONG_AFTER), backfill)
    assert listings() == len(LISTINGS) == 15
    assert store.counts()["reply"] == ITEMS - len(THREADS)
    assert changed_threads(store, SUBREDDIT) == []
    _run(fake, store, FixedClock(LONG_AFTER), backfill)  # a later one begins again, but reads no thread again
    assert listings() == 30
    assert sum(path.startswith("/comments/") for path in fake.requests) == len(THREADS)


def test_backfill_begins_a_listing_again_when_its_place_was_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reddit lists nothing behind an item that is gone."""
    monkeypatch.setattr("rfr.reddit.passes.LISTINGS", LISTINGS[:1])  # none of the others brings the rest
    first = THREADS[0]
    posts = [replace(first.post, id=f"n{number}", created_utc=EPOCH + number) for number in range(250)]
    assert first.post_observation is not None
    readings = [replace(first.post_observation, item_id=post.id) for post in posts]
    fake = FakeReddit(
        [Thread(post=p, replies=(), observations={}, post_observation=r) for p, r in zip(posts, readings, strict=True)]
    )
    deleted = False

    async def delete_on_the_way(crawler: Crawler) -> None:
        real = crawler.client.get

        async def get(path: str, **params: Any) -> Any:
            nonlocal deleted
            if not deleted and params.get("after"):
                deleted = True
                fake.absent = {str(params["after"]).removeprefix("t3_")}
            return await real(path, **params)

        crawler.client.get = get  # type: ignore[method-assign]
        await backfill(crawler)

    _run(fake, store, FixedClock(LONG_AFTER), delete_on_the_way)
    assert deleted
    assert store.counts()["post"] == 250


def test_a_post_that_was_left_out_once_is_asked_for_again(store: Store) -> None:
    store.add([Reply(id="r", post_id="gone", body="x")])
    for number in range(5):
        asked = orphaned_posts(store)
        assert asked == (["gone"] if number < TRIES else [])
        store.add([Observation(kind="post", item_id="gone", seen_at=float(number), source="reddit", score=None, missing=True)])


def test_posts_that_only_their_replies_name_are_asked_for(store: Store) -> None:
    fake = FakeReddit(THREADS)
    old = THREADS[0].post.id
    real = fake._posts

    async def without_the_oldest(request: Any) -> Any:
        kept = fake._all
        fake._all = [thread for thread in kept if thread.post.id != old]
        try:
            return await real(request)
        finally:
            fake._all = kept

    fake._posts = without_the_oldest  # type: ignore[method-assign]
    _run(fake, store, FixedClock(LONG_AFTER), crawl_once)
    assert store.rows("SELECT 1 FROM post WHERE id = ?", (old,))
    assert _infos(fake) == 1 + sum(math.ceil(max(0, len(thread.replies) - 25) / 100) for thread in THREADS)

"""The live collector against a misbehaving fake Reddit, over real HTTP with the real asyncpraw."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import traceback
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import asyncpraw
import pytest

from rfr.demo.fake_reddit import TREE_CAP, FakeReddit
from rfr.demo.faults import Fault, Faults, RateLimit, answers, cuts_body, edits, hangs, resets, sends_headers
from rfr.demo.loopback import fake_login
from rfr.demo.subreddit import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.errors import RedditDown, UserError
from rfr.reddit.backlog import changed_threads, due
from rfr.reddit.client import Client, connect
from rfr.reddit.clock import Clock, FastClock
from rfr.reddit.crawler import Crawler
from rfr.reddit.pacer import Pacer
from rfr.reddit.passes import crawl_once
from rfr.store.store import Store

THREADS = list(DemoSubreddit(threads=12))[-6:]
assert max(len(thread.replies) for thread in THREADS) > 25  # so that /api/info is needed
REPLIES = sum(len(thread.replies) for thread in THREADS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.db", write=True)


def _fast() -> Clock:
    return FastClock(start=EPOCH, speed=200)


def _crawl(fake: FakeReddit, store: Store, subreddit: str = SUBREDDIT, **options: Any) -> int:
    """One pass; how many requests it took."""

    async def run() -> int:
        clock = _fast()
        async with fake.serve() as url, connect(clock, **options, **fake_login(url)) as client:
            await crawl_once(Crawler(client=client, store=store, subreddit=subreddit, clock=clock))
            return client.requests

    return asyncio.run(run())


TROUBLES: dict[str, Callable[[], Fault]] = {
    "429, Retry-After in seconds": lambda: answers(429, retry_after="7"),
    "429, Retry-After as a date": lambda: answers(429, retry_after=formatdate(EPOCH + 20, usegmt=True)),
    "429, no Retry-After": lambda: answers(429),
    "429, garbled Retry-After": lambda: answers(429, retry_after="soon"),
    "500": lambda: answers(500),
    "503 in HTML": lambda: answers(503, "<html>down</html>"),
    "529": lambda: answers(529),
    "HTML with 200": lambda: answers(200, "<html>busy</html>"),
    "empty": lambda: answers(200),
    "null": lambda: answers(200, "null"),
    "error object with 200": lambda: answers(200, '{"message": "busy", "error": 503}'),
    "reset": lambda: resets,
    "cut body": lambda: cuts_body,
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("path", ["/r/", "/comments/", "/api/info", "/api/v1/access_token"])
def test_trouble_costs_a_request_and_no_data(store: Store, trouble: str, path: str) -> None:
    faults = Faults({path: [TROUBLES[trouble]()]})
    fake, calm = FakeReddit(THREADS, faults=faults), FakeReddit(THREADS)
    _crawl(fake, store)
    _crawl(calm, Store(store.path.with_name("calm.db"), write=True))
    assert faults.left == 0
    assert len(fake.requests) == len(calm.requests) + 1  # counted there: aiohttp repeats some resets on its own
    assert store.counts()["post"] == len(THREADS)
    assert store.counts()["reply"] == REPLIES


def test_a_hang_is_given_up_and_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfr.reddit.client.TIMEOUT_S", 0.3)
    faults = Faults({"/comments/": [hangs(5)]})
    _crawl(FakeReddit(THREADS, faults=faults), store)
    assert faults.left == 0
    assert store.counts()["reply"] == REPLIES


@pytest.mark.parametrize(
    "headers",
    [
        {"x_ratelimit_reset": "3.5"},
        {"x_ratelimit_reset": "soon", "x_ratelimit_remaining": "many"},
        {"x_ratelimit_remaining": "nan"},
        {"x_ratelimit_used": "a few"},
    ],
)
def test_odd_rate_headers_lose_no_good_answer(store: Store, headers: dict[str, str]) -> None:
    fake = FakeReddit(THREADS, faults=Faults({"/comments/": [sends_headers(**headers)] * 3}))
    undisturbed = _crawl(FakeReddit(THREADS), Store(store.path.with_name("calm.db"), write=True))
    assert _crawl(fake, store) == undisturbed
    assert store.counts()["reply"] == REPLIES


def test_a_token_that_expires_in_between_is_renewed(store: Store) -> None:
    fake = FakeReddit(THREADS, faults=Faults({"/comments/": [answers(401)]}))
    _crawl(fake, store)
    assert fake.requests.count("/api/v1/access_token") == 2
    assert store.counts()["reply"] == REPLIES


@pytest.mark.parametrize("path", ["/comments/", "/api/v1/access_token"])
def test_refused_credentials_are_the_users_error(store: Store, path: str) -> None:
    with pytest.raises(UserError, match="refuses these credentials"):
        _crawl(FakeReddit(THREADS, faults=Faults({path: [answers(401)] * 10})), store)


def test_a_reddit_that_stays_down_is_given_up_and_what_was_collected_stays(store: Store) -> None:
    third = FakeReddit(THREADS, faults=Faults({f"/comments/{THREADS[2].post.id}": [answers(503)] * 1000}))
    with pytest.raises(RedditDown, match=r"did not answer for 300 s \(status 503\)"):
        _crawl(third, store, patience_s=300)
    assert 0 < len(changed_threads(store, SUBREDDIT)) < len(THREADS)
    again = FakeReddit(THREADS)
    _crawl(again, store)
    assert 0 < sum(path.startswith("/comments/") for path in again.requests) < len(THREADS)  # the rest, and no more
    assert not changed_threads(store, SUBREDDIT)


def test_nobody_there(store: Store) -> None:
    async def run() -> None:
        clock = _fast()
        async with connect(clock, patience_s=60, **fake_login("http://127.0.0.1:9")) as client:
            await crawl_once(Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=clock))

    with pytest.raises(RedditDown, match="ClientConnectorError"):
        asyncio.run(run())


@pytest.mark.parametrize("status", [302, 403, 404, 451])
def test_a_subreddit_that_cannot_be_read_is_the_users_error(store: Store, status: int) -> None:
    fake = FakeReddit(THREADS, faults=Faults({"/r/": [answers(status, location="/subreddits/search?q=x")]}))
    with pytest.raises(UserError, match=f"no readable r/{SUBREDDIT}/new"):
        _crawl(fake, store)


def test_a_thread_costs_one_request_and_one_per_hundred_more(store: Store) -> None:
    fake = FakeReddit(THREADS)
    _crawl(fake, store)
    more = [max(0, len(thread.replies) - TREE_CAP) for thread in THREADS]
    assert sum(more) > 0
    threads = [path for path in fake.requests if path.startswith(("/comments/", "/api/info"))]
    assert len(threads) == sum(1 + math.ceil(named / 100) for named in more)
    _crawl(fake, store)
    assert len([path for path in fake.requests if path.startswith("/comments/")]) == len(THREADS)  # none was read again


def test_a_thread_that_is_gone_is_told_as_missing_and_the_others_are_read(store: Store) -> None:
    gone = THREADS[1].post.id
    _crawl(FakeReddit(THREADS, faults=Faults({f"/comments/{gone}": [answers(404)]})), store)
    assert not changed_threads(store, SUBREDDIT)
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT item_id FROM observation WHERE missing").fetchall() == [(gone,)]


def test_ids_that_info_leaves_out_are_told_as_missing(store: Store) -> None:
    def drop_first(listing: Any) -> Any:
        del listing["data"]["children"][0]
        return listing

    def hide_comments(listing: Any) -> Any:
        return {"kind": "Listing", "data": {"after": None, "children": []}}

    faults = {"/api/info": [edits(drop_first)], f"/r/{SUBREDDIT}/comments": [edits(hide_comments)]}
    _crawl(FakeReddit(THREADS, faults=Faults(faults)), store)
    with sqlite3.connect(store.path) as db:
        ((missing,),) = db.execute("SELECT item_id FROM observation WHERE missing").fetchall()
        assert not db.execute("SELECT 1 FROM reply WHERE id = ?", (missing,)).fetchall()
    assert store.counts()["reply"] == REPLIES - 1


async def _hammer(fake: FakeReddit, clock: Clock, tasks: int, for_s: float) -> Client:
    async with fake.serve() as url, connect(clock, **fake_login(url)) as client:
        began = clock.monotonic()

        async def ask() -> None:
            while clock.monotonic() - began < for_s:
                await client.get(f"comments/{THREADS[0].post.id}")

        await asyncio.gather(*(ask() for _ in range(tasks)))
        return client


@pytest.mark.parametrize("tasks", [1, 8, 32])
def test_the_pacer_uses_the_allowance_and_meets_no_429(tasks: int) -> None:
    clock = FastClock(start=EPOCH, speed=100)
    limit = RateLimit(clock, allowed=100, window_s=60)
    asyncio.run(_hammer(FakeReddit(THREADS, limit=limit), clock, tasks, for_s=300))
    assert limit.refused == 0
    assert limit.served > 0.85 * 5 * limit.allowed


def test_a_429_holds_everybody() -> None:
    async def run() -> float:
        clock = FastClock(start=0, speed=100)
        pacer = Pacer(clock, per_minute=6000)
        pacer.hold(30)
        began = clock.monotonic()

        async def go() -> None:
            async with pacer.turn():
                pass

        await asyncio.gather(*(go() for _ in range(5)))
        return clock.monotonic() - began

    assert asyncio.run(run()) >= 30


async def _connect(**login: Any) -> None:
    async with connect(**login):
        pass


def test_credentials_travel_encrypted_or_not_at_all() -> None:
    with pytest.raises(UserError, match="neither https nor on this machine"):
        asyncio.run(_connect(**fake_login("http://user:CANARY-1@example.com")))


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("praw_client_id", "praw_client_secret", "praw_user_agent"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"praw_client_id.*docs/reddit\.md"):
        asyncio.run(_connect())


def test_a_praw_ini_in_the_working_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "praw.ini").write_text("[DEFAULT]\noauth_url=https://evil.example\n")
    with pytest.raises(UserError, match=r"move it to ~/\.config/praw\.ini"):
        asyncio.run(_connect())


@pytest.mark.parametrize("text", ["[DEFAULT]\nclient_secret CANARY-1\n", "client_secret=CANARY-1\n", "[DEFAULT]\nx=\xff\n"])
def test_a_praw_ini_that_is_none_is_told_and_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "praw.ini").write_bytes(text.encode("latin-1"))
    (tmp_path / "praw.ini").chmod(0o600)
    with pytest.raises(UserError, match="is no ini file") as refusal:
        asyncio.run(_connect())
    assert "CANARY" not in "".join(traceback.format_exception(refusal.value))


def test_the_setting_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("praw_client_id", "x")
    monkeypatch.setenv("praw_user_agent", "linux:x:1 (by /u/x)")
    monkeypatch.delenv("praw_client_secret", raising=False)
    with pytest.raises(UserError, match="praw_client_secret is not set"):
        asyncio.run(_connect())


@pytest.mark.parametrize("status", [400, 415])
def test_an_error_page_is_told_in_one_line(store: Store, status: int) -> None:
    with pytest.raises((UserError, RedditDown), match=r"Reddit answers|failed"):
        _crawl(FakeReddit(THREADS, faults=Faults({"/r/": [answers(status, "<html>")] * 99})), store)


def test_a_lost_network_is_told_once(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    _crawl(FakeReddit(THREADS, faults=Faults({"/r/": [answers(503)] * 5})), store)
    assert capsys.readouterr().err == "rfr: no answer from Reddit yet (status 503): asking again for 10 minutes\n"


def test_a_name_in_another_case_is_the_same_subreddit(store: Store) -> None:
    _crawl(FakeReddit(THREADS), store)
    with store.transaction():
        store.drop_cursor(f"thread/{THREADS[0].post.id}")
    assert changed_threads(store, SUBREDDIT.upper()) == [THREADS[0].post.id]
    count = len(due(store, SUBREDDIT, [1.0], 9e9))
    assert len(due(store, SUBREDDIT.upper(), [1.0], 9e9)) == count > 0


def test_a_praw_ini_that_others_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(asyncpraw.config.Config, "CONFIG", None)  # it reads the files once per process
    ini = tmp_path / "praw.ini"
    ini.write_text("[DEFAULT]\nclient_id=a\nclient_secret=b\nuser_agent=linux:test:1 (by /u/x)\n")
    os.chmod(ini, 0o644)
    with pytest.raises(UserError, match="chmod 600"):
        asyncio.run(_connect())
    os.chmod(ini, 0o600)
    asyncio.run(_connect())

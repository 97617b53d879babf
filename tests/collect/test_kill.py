"""kill -9 at a hundred random moments: nothing committed is lost, nothing comes twice, next to nothing is asked again."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rfr.collect.files import dumps
from rfr.collect.files.dumps import import_dump
from rfr.demo.fake_reddit import FakeReddit
from rfr.demo.faults import RateLimit
from rfr.demo.loopback import fake_login
from rfr.demo.subreddit import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.reddit.client import connect
from rfr.reddit.clock import Clock, FixedClock
from rfr.reddit.crawler import Crawler
from rfr.reddit.passes import crawl_once
from rfr.store.store import Store
from tests.conftest import ROOT

KILLS = 50  # of each kind
NOW = EPOCH + 90 * 86400.0

CRAWL = f"""
import asyncio, sys
from rfr.reddit.client import connect
from rfr.reddit.clock import Clock
from rfr.reddit.passes import crawl_once
from rfr.reddit.crawler import Crawler
from rfr.demo.loopback import fake_login
from rfr.store.store import Store

class Still(Clock):  # waits as the world does, since that is when one is killed
    def time(self):
        return {NOW}

async def main(url, path):
    clock = Still()
    async with connect(clock, **fake_login(url)) as client:
        with Store(path, write=True) as store:
            print("begun", flush=True)
            await crawl_once(Crawler(client=client, store=store, subreddit="{SUBREDDIT}", clock=clock))

asyncio.run(main(*sys.argv[1:]))
"""
IMPORT = """
import sys, time
from rfr.collect.files import dumps
from rfr.store.store import Store

dumps.COMMIT_BYTES = 20_000
real = dumps._import

def slowly(*arguments):
    time.sleep(0.002)  # so that a kill finds it at work
    return real(*arguments)

dumps._import = slowly
pieces = dumps.chunks
dumps.chunks = lambda path: (data[i : i + 5000] for data in [path.read_bytes()] for i in range(0, len(data), 5000))
with Store(sys.argv[2], write=True) as store:
    print("begun", flush=True)
    dumps.import_dump(store, sys.argv[1], "WritingPrompts")
"""


def _killed(code: str, arguments: list[str], after_s: float) -> bool:
    """Run it and kill it so long after it began; whether it was still running."""
    child = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    time.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    code_of_end = child.wait()
    assert code_of_end in (0, -signal.SIGKILL)
    return code_of_end != 0


def _rows(path: Path) -> dict[str, set]:
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {table: set(db.execute(f"SELECT * FROM {table}")) for table in ("post", "reply", "observation")}


def _nothing_lost(before: dict[str, set], after: dict[str, set]) -> None:
    for table, rows in before.items():
        assert rows <= after[table], table


@contextmanager
def _served(fake: FakeReddit) -> Iterator[str]:
    """The fake in a thread of its own, so that it outlives the crawlers."""
    loop, ready, urls = asyncio.new_event_loop(), threading.Event(), []
    stop = asyncio.Event()

    async def serve() -> None:
        async with fake.serve() as url:
            urls.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    yield urls[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.mark.slow
def test_a_crawl_killed_fifty_times(tmp_path: Path) -> None:
    threads = list(DemoSubreddit(threads=150))
    whole = tmp_path / "whole.db"

    async def uninterrupted(url: str) -> None:
        clock = FixedClock(NOW)
        async with connect(clock, **fake_login(url)) as client:
            with Store(whole, write=True) as store:
                await crawl_once(Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=clock))

    calm = FakeReddit(threads)
    with _served(calm) as url:
        asyncio.run(uninterrupted(url))
    needed = len(_thread_pages(calm))
    draw, kills, rounds, again, worst = random.Random(0), 0, 0, 0, 0
    rows: dict[str, set]
    while kills < KILLS:
        limit = RateLimit(Clock(), allowed=6000, window_s=600)  # a request in 100 ms: an answer comes sooner
        path, fake, rows, running = tmp_path / f"{rounds}.db", FakeReddit(threads, limit=limit), {}, True
        with _served(fake) as url:
            while running:
                asked = _thread_pages(fake)
                running = _killed(CRAWL, [url, str(path)], draw.uniform(0.1, 0.8))
                kills += running
                twice = set(_thread_pages(fake)[len(asked) :]) & set(asked)
                worst = max(worst, len(twice))
                after = _rows(path)
                _nothing_lost(rows, after)
                rows = after
        rounds += 1
        again += len(_thread_pages(fake)) - needed
        with Store(path) as store, Store(whole) as complete:
            assert store.digest() == complete.digest()
    print(f"{kills} kills in {rounds} crawls: {again} pages of threads asked for again, at most {worst} after one kill")
    assert worst <= 1
    assert again <= kills


def _thread_pages(fake: FakeReddit) -> list[str]:
    """Trees and the rest of trees, as they were asked for."""
    return [path for path in fake.requests if path.startswith(("/comments/", "/api/info"))]


@pytest.mark.slow
def test_an_import_killed_fifty_times(tmp_path: Path) -> None:
    dump = tmp_path / "RC_2024-01"
    comment = {"subreddit": "WritingPrompts", "parent_id": "t3_p1", "link_id": "t3_p1", "author": "a", "created_utc": 1}
    lines = [{**comment, "id": f"r{i}", "body": "word " * 30, "score": i, "retrieved_on": 9} for i in range(4000)]
    dump.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Store(tmp_path / "whole.db", write=True) as store:
        import_dump(store, dump, "WritingPrompts")
        digest = store.digest()
    draw, kills, rounds = random.Random(0), 0, 0
    rows: dict[str, set]
    while kills < KILLS:
        path, rows = tmp_path / f"{rounds}.db", {}
        while True:
            running = _killed(IMPORT, [str(dump), str(path)], draw.uniform(0.01, 0.2))
            kills += running
            after = _rows(path)
            _nothing_lost(rows, after)
            rows = after
            with Store(path) as store:
                marks = store.rows("SELECT value FROM cursor")
            state = dumps.ImportState(**json.loads(marks[0][0])) if marks else dumps.ImportState()
            assert len(rows["reply"]) == state.kept  # the mark and the rows are of one moment
            if not running:
                break
        rounds += 1
        with Store(path) as store:
            assert store.digest() == digest
        assert state.done
        assert state.read == len(lines)
    print(f"{kills} kills in {rounds} imports")

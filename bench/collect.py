"""`make bench-collect`: what collecting costs in requests, in seconds and in memory, against facts and not against hopes.

The live part runs against the fake Reddit over real HTTP; the dump part against `zstd -d` alone and a json.loads loop.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from bench.lib.report import Figure, record
from bench.lib.synthetic_dumps import import_once, json_loop, write_dump, zstd_alone
from rfr.demo.fake_reddit import TREE_CAP, FakeReddit
from rfr.demo.faults import RateLimit
from rfr.demo.loopback import fake_login
from rfr.demo.subreddit import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.errors import UserError
from rfr.reddit.backlog import due
from rfr.reddit.client import connect
from rfr.reddit.clock import Clock, FastClock, FixedClock
from rfr.reddit.crawler import Crawler
from rfr.reddit.listings import poll
from rfr.reddit.passes import crawl_once, refresh
from rfr.store.store import Store

HOUR, DAY = 3600.0, 86400.0
RAW_MIB, WINDOW_MIB, ROUNDS = 2560, 2048, 5  # more than the window, so that it is filled


def on(fake: FakeReddit, store: Store, clock: Clock, work: Callable[[Crawler], Awaitable[object]]) -> None:
    """Do this work against the fake."""

    async def run() -> None:
        async with fake.serve() as url, connect(clock, **fake_login(url)) as client:
            await work(Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=clock))

    asyncio.run(run())


def requests_of_threads_and_scores(folder: Path) -> list[Figure]:
    """A pass over 480 threads, then a reading of every score a month later."""
    threads = list(DemoSubreddit(threads=480))
    fake = FakeReddit(threads)
    with Store(folder / "passes.db", write=True) as store:
        on(fake, store, FixedClock(EPOCH + 20 * DAY), crawl_once)
        asked = sum(path.startswith(("/comments/", "/api/info")) for path in fake.requests)
        needed = sum(1 + math.ceil(max(0, len(thread.replies) - TREE_CAP) / 100) for thread in threads)
        before, later = len(fake.requests), EPOCH + 60 * DAY
        items = len(due(store, SUBREDDIT, [30 * DAY], later))
        on(fake, store, FixedClock(later), lambda crawler: refresh(crawler, [30 * DAY]))
        refreshes = sum(path.startswith("/api/info") for path in fake.requests[before:])
        assert not due(store, SUBREDDIT, [30 * DAY], later)
    return [
        Figure(name="refresh_ratio", value=refreshes / math.ceil(items / 100), target="<= 1.02",
               meaning=f"requests for {items:,} scores / ceil(scores / 100)"),
        Figure(name="backfill_ratio", value=asked / needed, target="1",
               meaning=f"requests for {len(threads)} threads / sum of 1 + ceil(more / 100)"),
    ]  # fmt: skip


def requests_of_discovery(folder: Path) -> Figure:
    """A subreddit of a post every half hour, polled at uneven times over 20 days."""
    threads = list(DemoSubreddit(threads=960))
    clock = FixedClock(EPOCH)
    pages = needed = 0
    fake = FakeReddit(threads, clock=clock)
    with Store(folder / "discovery.db", write=True) as store:

        async def polls(crawler: Crawler) -> None:
            nonlocal pages, needed
            for hours in (1, 2, 5, 12, 24, 60, 2, 100, 1, 50, 120, 7, 70):
                clock.advance(hours * HOUR)
                known = store.counts()["post"]
                pages += await poll(crawler, "new")
                needed += math.ceil((store.counts()["post"] - known) / 100) + 1

        on(fake, store, clock, polls)
    return Figure(
        name="discovery_ratio", value=pages / needed, target="<= 1.25", meaning="pages of /new / (ceil(new / 100) + polls)"
    )


def use_of_the_rate_limit(folder: Path) -> list[Figure]:
    """Ten minutes under a limit of 600 requests in 600 seconds, sixty times as fast as they are."""
    threads = list(DemoSubreddit(threads=24))
    clock = FastClock(start=EPOCH, speed=60)
    limit = RateLimit(clock, allowed=600, window_s=600)
    fake = FakeReddit(threads, limit=limit)
    names = [f"t1_{reply.id}" for thread in threads for reply in thread.replies]
    seconds = 0.0
    with Store(folder / "rate.db", write=True) as store:

        async def ten_minutes(crawler: Crawler) -> None:
            nonlocal seconds
            began = clock.monotonic()
            reading = asyncio.ensure_future(crawler.read_again(names * 1000))
            while clock.monotonic() - began < 600:
                await clock.sleep(5)
            seconds = clock.monotonic() - began
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

        on(fake, store, clock, ten_minutes)
    return [
        Figure(name="rate_used", value=limit.served / (limit.allowed * seconds / 600), target=">= 0.90",
               meaning=f"requests served / allowed in {seconds:.0f} simulated seconds"),
        Figure(name="http_429", value=limit.refused, target="0", meaning="requests refused in them"),
    ]  # fmt: skip


def import_of_a_dump(folder: Path) -> tuple[list[Figure], str]:
    """Medians of interleaved rounds over one file; the import writes to a fresh store on disk."""
    if shutil.which("zstd") is None:
        raise UserError("the benchmark compares with the zstd command: install zstd")
    path = folder / "RC_2024-01.zst"
    true = write_dump(path, RAW_MIB)
    raw_mib = true["raw_bytes"] / 2**20
    alone, loop, ours = [], [], []
    for number in range(ROUNDS):
        alone.append(zstd_alone(path))
        ours.append(import_once(path, folder / f"import-{number}.db"))
        loop.append(json_loop(path))
    seconds = median(one["seconds"] for one in ours)
    unaccounted = sum(abs(one[name] - true[name]) for one in ours for name in ("read", "kept", "filtered", "rejected"))
    rss = max(one["rss_mib"] for one in ours)
    figures = [
        Figure(name="import_vs_zstd", value=median(alone) / seconds, target=">= 0.5",
               meaning=f"speed / that of zstd -d alone ({raw_mib / median(alone):,.0f} MiB/s)"),
        Figure(name="import_vs_json_loop", value=median(loop) / seconds, target=">= 6",
               meaning=f"speed / that of a json.loads loop ({raw_mib / median(loop):,.0f} MiB/s)"),
        Figure(name="import_rss_over_window_mib", value=rss - min(WINDOW_MIB, raw_mib), target="<= 300",
               meaning="peak memory above the part of the window that the file fills"),
        Figure(name="unaccounted_lines", value=unaccounted, target="0",
               meaning=f"of {true['read']:,}: read = kept + filtered + rejected, each as generated"),
    ]  # fmt: skip
    return figures, f"{raw_mib:,.0f} MiB raw, {path.stat().st_size / 2**20:,.0f} MiB zst, imported in {seconds:.2f} s"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        imports, dump = import_of_a_dump(folder)
        live = [*requests_of_threads_and_scores(folder), *use_of_the_rate_limit(folder), requests_of_discovery(folder)]
        record("collect", [*live, *imports], ("asyncpraw", "zstandard", "orjson"), {"dump": dump})


if __name__ == "__main__":
    main()

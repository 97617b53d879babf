"""A live source for tests: a fake Reddit that can be changed between two passes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rfr.demo.fake_reddit import FakeReddit
from rfr.demo.loopback import fake_login
from rfr.demo.subreddit import EPOCH, SUBREDDIT
from rfr.records import Thread
from rfr.reddit.client import connect
from rfr.reddit.clock import FastClock
from rfr.reddit.crawler import Crawler, Report
from rfr.reddit.parse import full_name
from rfr.reddit.passes import crawl_once
from rfr.store.store import Store

if TYPE_CHECKING:
    from rfr.collect.sources import Work

DAY = 86400.0


class FakeSource:
    """Crawls `fake` at a time when everything was posted; every crawl is a second later than the last.

    `absent_once`: ids that the next /api/info leaves out.
    """

    def __init__(self, threads: list[Thread]) -> None:
        self.threads, self.fake, self.subreddit = threads, FakeReddit(threads), SUBREDDIT
        self.absent_once: set[str] = set()
        self._clock = FastClock(start=EPOCH + 60 * DAY, speed=1000)

    def store_name(self) -> str:
        return self.subreddit

    def collect(self, store: Store, report: Report) -> dict[str, Any]:
        self.crawl(crawl_once, store, report)
        return {}

    def wait(self, seconds: float) -> None:
        self._clock = FastClock(start=self._clock.time() + seconds, speed=1000)

    def now(self) -> float:
        return self._clock.time()

    def crawl(self, work: Work, store: Store, report: Report, *, for_ever: bool = False) -> None:
        async def run() -> None:
            async with self.fake.serve() as url, connect(self._clock, **fake_login(url)) as client:
                crawler = Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=self._clock, report=report)
                real = crawler.ask

                async def ask(names: list[str]) -> Any:
                    present, absent = await real(names)
                    once = [child for child in present if child["data"]["id"] in self.absent_once]
                    self.absent_once -= {child["data"]["id"] for child in once}
                    return [child for child in present if child not in once], absent | set(map(full_name, once))

                crawler.ask = ask  # type: ignore[method-assign]
                await work(crawler)

        asyncio.run(run())

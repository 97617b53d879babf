"""The demo subreddit as a source to collect from and as a corpus to train on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from rfr.collect.sources import subreddit_name
from rfr.demo.grammar import true_quality
from rfr.demo.oracle import OracleResidual
from rfr.demo.subreddit import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.store.store import Store
from rfr.utils.files import new_file
from rfr.utils.hashing import key_of

if TYPE_CHECKING:  # asyncpraw takes a while to import
    from rfr.collect.sources import Work
    from rfr.reddit.crawler import Report


@dataclass(frozen=True, kw_only=True)
class DemoSource:
    """The demo subreddit, served by a fake Reddit on the loopback and collected by the real collector.

    It is collected at a fixed time, so that the store is the same on any day; with `mode=watch`, an hour passes in a second.
    """

    demo: DemoSubreddit
    subreddit: str = SUBREDDIT

    def store_name(self) -> str:
        return subreddit_name(self.subreddit)

    def now(self) -> float:
        """A month after the last post."""
        return EPOCH + 1800 * self.demo.threads + 30 * 86400

    def collect(self, store: Store, report: Report) -> dict[str, Any]:
        from rfr.reddit.passes import crawl_once

        self.crawl(crawl_once, store, report)
        return {}

    def crawl(self, work: Work, store: Store, report: Report, *, for_ever: bool = False) -> None:
        from rfr.demo.fake_reddit import FakeReddit
        from rfr.demo.loopback import fake_login
        from rfr.reddit.client import connect
        from rfr.reddit.clock import FastClock, FixedClock
        from rfr.reddit.crawler import Crawler

        ((seen,),) = store.rows("SELECT max(seen_at) FROM observation")
        clock = FastClock(start=max(EPOCH, seen or 0), speed=3600) if for_ever else FixedClock(max(self.now(), seen or 0))

        async def run() -> None:
            async with FakeReddit(self.demo, clock=clock).serve() as url, connect(clock, **fake_login(url)) as client:
                crawler = Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=clock, source="demo", report=report)
                await work(crawler)

        asyncio.run(run())


@dataclass(frozen=True, kw_only=True)
class DemoCorpus:
    """The demo subreddit; its store is built once per set of parameters, under a lock."""

    folder: str
    demo: DemoSubreddit

    @property
    def name(self) -> str:
        return f"rfr_demo-{key_of(asdict(self.demo))[:8]}"

    def open(self) -> Store:
        path = Path(self.folder) / f"{self.name}.db"
        build_demo_store(path, self.demo)
        return Store(path)

    @property
    def simulated(self) -> str:
        return "a grammar makes the stories, simulated readers give the karma: this says nothing about Reddit"

    @property
    def quality(self) -> Callable[[str, str], float]:
        """(prompt, story) -> true quality in [0, 1]."""
        return true_quality

    @property
    def ceiling(self) -> OracleResidual:
        return OracleResidual(self.demo.karma)


def build_demo_store(path: Path, demo: DemoSubreddit) -> None:
    """Collect the demo subreddit into `path` unless it is there already; two processes build it once."""
    from rfr.reddit.crawler import silent

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            return
        with new_file(path) as partial:
            with Store(partial, write=True) as store:
                DemoSource(demo=demo).collect(store, silent)
            Path(f"{partial}.lock").unlink()

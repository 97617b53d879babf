"""Where karma comes from: `conf/source/*.yaml` names one of these; `collect(store, progress)` fills the store and
may return figures of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from rfr.reddit.tables import import_table
from rfr.simulate import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.store import Store

Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class RedditSource:
    """The live API, through asyncpraw. Credentials are asyncpraw's business: environment or praw.ini."""

    subreddit: str
    limit: int

    def collect(self, store: Store, progress: Progress) -> None:
        from rfr.reddit.client import connect  # asyncpraw takes a while to import
        from rfr.reddit.crawl import crawl_once

        async def run() -> None:
            async with connect() as client:
                await crawl_once(client, store, self.subreddit, limit=self.limit, progress=progress)

        asyncio.run(run())


@dataclass(frozen=True, kw_only=True)
class DemoSource:
    """The demo subreddit, served by a fake Reddit on the loopback and collected by the real collector."""

    demo: DemoSubreddit
    subreddit: str = SUBREDDIT

    def collect(self, store: Store, progress: Progress) -> None:
        from rfr.reddit.client import connect
        from rfr.reddit.clock import FixedClock
        from rfr.reddit.crawl import crawl_once
        from rfr.reddit.fake import FakeReddit, fake_login

        month_later = FixedClock(float(EPOCH + 1800 * self.demo.threads + 30 * 86400))  # the same store on any day

        async def run() -> None:
            async with FakeReddit(self.demo).serve() as url, connect(month_later, **fake_login(url)) as client:
                await crawl_once(client, store, SUBREDDIT, source="demo", clock=month_later, progress=progress)

        asyncio.run(run())


@dataclass(frozen=True, kw_only=True)
class DumpSource:
    """One RS_ or RC_ file of a monthly dump; see `dumps.import_dump`."""

    path: str
    subreddit: str

    def collect(self, store: Store, progress: Progress) -> dict[str, Any]:
        from rfr.reddit.dumps import import_dump

        state = import_dump(store, self.path, self.subreddit, lambda state: progress(state.kept))
        store.write_rejects()
        return {name: value for name, value in asdict(state).items() if name not in ("offset", "done")}


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """A file people already have; see `tables.import_table` for the columns."""

    path: str
    columns: Mapping[str, str]
    subreddit: str
    seen_at: float | None = None

    def collect(self, store: Store, progress: Progress) -> None:
        import_table(store, self.path, self.columns, subreddit=self.subreddit, seen_at=self.seen_at, progress=progress)


def build_demo_store(path: Path, demo: DemoSubreddit, progress: Progress = lambda posts: None) -> None:
    """Collect the demo subreddit into `path` unless it is there already; two processes build it once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            return
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with Store(partial, write=True) as store:
            DemoSource(demo=demo).collect(store, progress)
        os.replace(partial, path)
        Path(f"{partial}.lock").unlink()

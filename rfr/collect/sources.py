"""Where karma comes from: `conf/source/*.yaml` names one of these. All can `collect` into a store; live ones can `crawl`."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock

from rfr.errors import UserError
from rfr.ranges import Count
from rfr.store.rejects import rejects_file, write_rejects
from rfr.demo.subreddit import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.store.store import Store
from rfr.utils.terminal import printable

if TYPE_CHECKING:  # asyncpraw takes a while to import
    from rfr.reddit.crawler import Crawler, Report
    from rfr.collect.files.dumps import Progress

    Work = Callable[[Crawler], Awaitable[None]]


class Source(Protocol):
    """What a mode of `collect.py` asks of a source."""

    def store_name(self) -> str:
        """What its store is called where nobody says."""
        ...

    def collect(self, store: Store, report: Report) -> dict[str, Any]:
        """Fill the store with what there is now; returns figures worth telling."""
        ...

    def now(self) -> float | None:
        """The time there, Unix seconds; None where no time passes."""
        ...

    def crawl(self, work: Work, store: Store, report: Report, *, for_ever: bool = False) -> None:
        """Do this work on the subreddit; `for_ever`: however long Reddit is down.

        Raises:
            UserError: the source is a file, which is not there to be asked twice.
        """
        ...


AUTO = "auto"  # the store that has the name of its source
SUBREDDIT_NAME = re.compile(r"[A-Za-z0-9_]{2,24}")


def subreddit_name(value: Any) -> str:
    """
    Raises:
        UserError: no subreddit can be called so.
    """
    if not SUBREDDIT_NAME.fullmatch(str(value)):
        raise UserError(f"source.subreddit={value} is no subreddit's name: give one, without r/, of letters, digits and _")
    return str(value)


def given_path(path: Any, what: str) -> Path:
    """
    Raises:
        UserError: nobody gave one.
    """
    if path is None:
        raise UserError(f"no file to read: set source.path to {what}")
    return Path(str(path))


class FileSource:
    """A file: read once, never asked again."""

    subreddit: str

    def store_name(self) -> str:
        """What its store is called where nobody says."""
        return subreddit_name(self.subreddit)

    def now(self) -> float | None:
        return None

    def crawl(self, work: Work, store: Store, report: Report, *, for_ever: bool = False) -> None:
        raise UserError("a file can only be read once: this mode asks Reddit again, so it needs source=reddit or source=demo")


@dataclass(frozen=True, kw_only=True)
class RedditSource:
    """The live API, through asyncpraw. Credentials are asyncpraw's business: environment or praw.ini."""

    subreddit: str
    limit: Count

    def __post_init__(self) -> None:
        subreddit_name(self.subreddit)

    def store_name(self) -> str:
        return subreddit_name(self.subreddit)

    def now(self) -> float:
        return time.time()

    def collect(self, store: Store, report: Report) -> dict[str, Any]:
        from rfr.reddit.passes import crawl_once

        self.crawl(partial(crawl_once, limit=self.limit), store, report)
        return {}

    def crawl(self, work: Work, store: Store, report: Report, *, for_ever: bool = False) -> None:
        from rfr.reddit.client import PATIENCE_S, connect
        from rfr.reddit.clock import Clock
        from rfr.reddit.crawler import Crawler

        name = subreddit_name(self.subreddit)

        async def run() -> None:
            clock = Clock()
            async with connect(clock, patience_s=None if for_ever else PATIENCE_S) as client:
                await work(Crawler(client=client, store=store, subreddit=name, clock=clock, report=report))

        asyncio.run(run())


@dataclass(frozen=True, kw_only=True)
class DemoSource:
    """The demo subreddit, served by a fake Reddit on the loopback and collected by the real collector.

    It is collected at a fixed time, so that the store is the same on any day; watched, an hour passes in a second.
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
        from rfr.reddit.client import connect
        from rfr.reddit.clock import FastClock, FixedClock
        from rfr.reddit.crawler import Crawler
        from rfr.demo.fake_reddit import FakeReddit
        from rfr.demo.loopback import fake_login

        ((seen,),) = store.rows("SELECT max(seen_at) FROM observation")
        clock = FastClock(start=max(EPOCH, seen or 0), speed=3600) if for_ever else FixedClock(max(self.now(), seen or 0))

        async def run() -> None:
            async with FakeReddit(self.demo, clock=clock).serve() as url, connect(clock, **fake_login(url)) as client:
                crawler = Crawler(
                    client=client, store=store, subreddit=SUBREDDIT, clock=clock, source="demo", report=report
                )  # fmt: skip
                await work(crawler)

        asyncio.run(run())


@dataclass(frozen=True, kw_only=True)
class DumpSource(FileSource):
    """One RS_ or RC_ file of a monthly dump; see `dumps.import_dump`."""

    path: str | None
    subreddit: str

    def __post_init__(self) -> None:
        subreddit_name(self.subreddit)

    def collect(self, store: Store, report: Report) -> dict[str, Any]:
        from rfr.collect.files.dumps import import_dump

        name, path, news = subreddit_name(self.subreddit), given_path(self.path, "an RS_ or RC_ file"), False

        def committed(state: Progress) -> None:
            nonlocal news
            news = True
            report("lines kept", state.kept)

        state = import_dump(store, path, name, committed)
        write_rejects(store)
        if state.rejected:
            say(f"{state.rejected:,} of {state.read:,} lines of {path} are rejected, the first at {state.first_reject}; "
                f"{rejects_file(store)} has all")  # fmt: skip
        elif state.read and not state.kept:
            say(f"none of the {state.read:,} lines of {path} is a post of r/{name} or a reply to one: is the name spelt as "
                "Reddit spells it, and is this a dump of Reddit?")  # fmt: skip
        counts = {"read": state.read, "kept": state.kept, "filtered": state.filtered, "rejected": state.rejected}
        return {"path": str(path), "already_imported": not news, **counts}


def say(message: str) -> None:
    """A line for the user, beside the figures that scripts read."""
    print(f"rfr: {printable(message)}", file=sys.stderr, flush=True)


def build_demo_store(path: Path, demo: DemoSubreddit) -> None:
    """Collect the demo subreddit into `path` unless it is there already; two processes build it once."""
    from rfr.reddit.crawler import silent

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            return
        partial_path = path.with_suffix(".partial")
        partial_path.unlink(missing_ok=True)
        with Store(partial_path, write=True) as store:
            DemoSource(demo=demo).collect(store, silent)
        os.replace(partial_path, path)
        Path(f"{partial_path}.lock").unlink()

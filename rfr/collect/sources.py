"""Where karma comes from: `conf/source/*.yaml` names one. All can `collect`; live ones can `crawl`."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rfr.errors import UserError
from rfr.ranges import Count
from rfr.store.rejects import rejects_file, write_rejects
from rfr.store.store import Store
from rfr.utils.terminal import printable

if TYPE_CHECKING:  # asyncpraw takes a while to import
    from rfr.collect.files.dumps import ImportState
    from rfr.reddit.crawler import Crawler, Report

    Work = Callable[[Crawler], Awaitable[None]]


class Source(Protocol):
    """The interface that the modes of `collect.py` use."""

    def store_name(self) -> str:
        """The name of its store when the user gives none."""
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
            UserError: the source is a file, which can't be asked again.
        """
        ...


AUTO = "auto"  # the store is named after its source
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
        """The name of its store when the user gives none."""
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
class DumpSource(FileSource):
    """One RS_ or RC_ file of a monthly dump; see `dumps.import_dump`."""

    path: str | None
    subreddit: str

    def __post_init__(self) -> None:
        subreddit_name(self.subreddit)

    def collect(self, store: Store, report: Report) -> dict[str, Any]:
        from rfr.collect.files.dumps import import_dump

        name, path, news = subreddit_name(self.subreddit), given_path(self.path, "an RS_ or RC_ file"), False

        def committed(state: ImportState) -> None:
            nonlocal news
            news = True
            report("lines kept", state.kept)

        state = import_dump(store, path, name, committed)
        write_rejects(store)
        if state.rejected:
            say(
                f"{state.rejected:,} of {state.read:,} lines of {path} are rejected, the first at {state.first_reject}; "
                f"{rejects_file(store)} has all"
            )
        elif state.read and not state.kept:
            say(
                f"none of the {state.read:,} lines of {path} is a post of r/{name} or a reply to one: is the name spelt as "
                "Reddit spells it, and is this a dump of Reddit?"
            )
        counts = {"read": state.read, "kept": state.kept, "filtered": state.filtered, "rejected": state.rejected}
        return {"path": str(path), "already_imported": not news, **counts}


def say(message: str) -> None:
    """A line for the user, beside the figures that scripts read."""
    print(f"rfr: {printable(message)}", file=sys.stderr, flush=True)

"""The crawler that every pass over a subreddit uses: it holds the session and the store, and turns items into records."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from more_itertools import chunked

from rfr.records import Observation, Post, Reply
from rfr.reddit.client import Client
from rfr.reddit.clock import Clock
from rfr.reddit.field_values import PREFIXES
from rfr.reddit.parse import full_name, listing_children, to_observation, to_post, to_reply, validated
from rfr.store.store import Origin, Store

PAGE_ITEMS = 100  # the most Reddit gives per listing page and per /api/info call
WORKERS = 4  # so that the pace is set by the rate limit and not by how fast Reddit answers
LAST_READING = """SELECT score, hidden, missing, archived, num_comments FROM observation
    WHERE kind = ? AND item_id = ? AND source = ? ORDER BY ifnull(seen_at, -1) DESC LIMIT 1"""
Item = TypeVar("Item")


class Report(Protocol):
    """Hears how far a pass is: `report("threads", 3, 10)`; the total is None where nobody knows it. Notes are asides."""

    def __call__(self, what: str, done: int, total: int | None = None, **notes: int | None) -> None: ...


def silent(what: str, done: int, total: int | None = None, **notes: int | None) -> None:
    """A report to nobody."""


class NestedReply(Exception):
    """A reply to a reply: nothing rfr has a use for."""


@dataclass(kw_only=True)
class Crawler:
    """A subreddit, its store and a session with Reddit.

    `clock` stamps every reading of a score, `source` names it; `met` holds the ids that came in so far, `due` counts the
    scores still to be read.
    """

    client: Client
    store: Store
    subreddit: str
    clock: Clock
    source: str = "reddit"
    report: Report = silent
    met: dict[str, set[str]] = field(default_factory=lambda: {"posts": set(), "replies": set()})
    due: int | None = None

    def report_progress(self, what: str, done: int, total: int | None = None) -> None:
        """Report with what people want to know beside it: items so far, scores due, what the rate limit leaves."""
        left = self.client.pacer.remaining
        met = {name: len(ids) for name, ids in self.met.items()}
        self.report(what, done, total, **met, due=self.due, requests_left=None if left is None else int(left))

    def keep(self, children: Iterable[Any], seen_at: float, *, only_news: bool = False) -> None:
        """Items of a listing into the store; what can't be used becomes a reject. Call it in a transaction.

        Args:
            only_news: leave out a reading that repeats the item's last one.
        """
        for child in children:
            try:
                item, reading = _records(child, seen_at, self.source)
                self.store.add([item] if only_news and self._repeats(reading) else [item, reading])
                self.met["posts" if isinstance(item, Post) else "replies"].add(item.id)
            except NestedReply:
                pass  # only direct replies are stories
            except (KeyError, TypeError, ValueError) as error:
                line = json.dumps(child).encode()
                self.store.reject(Origin(self.source), zlib.crc32(line), f"{type(error).__name__}: {error}", line)

    def _repeats(self, reading: Observation) -> bool:
        last = self.store.rows(LAST_READING, (reading.kind, reading.item_id, reading.source))
        return last == [(reading.score, reading.hidden, reading.missing, reading.archived, reading.num_comments)]

    def note_missing(self, names: Iterable[str], seen_at: float) -> None:
        """These were asked for, by their full names, and Reddit did not give them. Call it in a transaction."""
        for name in sorted(names):
            kind, item_id = PREFIXES[name[:3]], name[3:]
            self.store.add(
                [Observation(kind=kind, item_id=item_id, seen_at=seen_at, source=self.source, score=None, missing=True)]
            )

    async def ask(self, names: list[str]) -> tuple[list[Any], set[str]]:
        """The items of up to a hundred full names (t3_... and t1_... mixed), and the names of those Reddit left out."""
        assert len(names) <= PAGE_ITEMS
        items = listing_children(await self.client.get("api/info", id=",".join(names)))
        return items, set(names) - set(map(full_name, items))

    async def read_again(self, names: list[str]) -> None:
        """A new reading of every named item, a hundred per request, each hundred committed whole."""
        done = 0

        async def read(hundred: list[str]) -> None:
            nonlocal done
            items, absent = await self.ask(hundred)
            seen_at = self.clock.time()
            with self.store.transaction():
                self.keep(items, seen_at)
                self.note_missing(absent, seen_at)
            done += len(hundred)
            self.due = None if self.due is None else self.due - len(hundred)
            self.report_progress("readings", done, len(names))

        await run_concurrently(read, chunked(names, PAGE_ITEMS))


async def run_concurrently(work: Callable[[Item], Awaitable[None]], items: Iterable[Item]) -> None:
    """`work` on every item, a few at a time; the first failure ends all and is raised as it is."""
    iterator = iter(items)

    async def worker() -> None:
        for item in iterator:
            await work(item)

    workers = [asyncio.create_task(worker()) for _ in range(WORKERS)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _records(child: Any, seen_at: float, source: str) -> tuple[Post | Reply, Observation]:
    kind = PREFIXES.get(f"{child['kind']}_")
    if kind is None:
        raise ValueError(f"unknown kind {child['kind']!r:.60}")
    data = validated(child["data"], kind)
    if kind == "post":
        return to_post(data, seen_at), to_observation(data, seen_at, source)
    reply = to_reply(data, seen_at)
    if reply is None:
        raise NestedReply
    return reply, to_observation(data, seen_at, source)

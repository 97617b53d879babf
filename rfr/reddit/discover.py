"""What is new in a subreddit: its listings, polled back to what the last poll saw; a lost overlap goes on record as a gap."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from rfr.records import Observation, Post, Reply
from rfr.reddit.client import Client
from rfr.reddit.clock import Clock
from rfr.reddit.things import Json, listing_children, to_observation, to_post, to_reply
from rfr.store import Store

PAGE = 100  # the most Reddit gives per listing page and per /api/info call
Records = list[Post | Reply | Observation]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far a listing was read; committed with every page, so that a kill costs one page.

    `seen_utc` is the newest item of the last whole poll (None: there was none). The rest is of a poll in progress:
    behind which item it goes on, its newest and oldest item so far, whether it had to begin again.
    """

    seen_utc: float | None = None
    after: str | None = None
    newest_utc: float | None = None
    oldest_utc: float | None = None
    restarted: bool = False


async def poll(client: Client, store: Store, subreddit: str, listing: str, *, clock: Clock, source: str = "reddit") -> int:
    """Read `listing` ("new" or "comments") from the top back to the last poll's newest item; returns the number of pages."""
    cursor, pages = f"{subreddit}/{listing}", 0
    mark = Mark(**json.loads(store.cursor(cursor) or "{}"))
    while True:
        page = await client.get(f"r/{subreddit}/{listing}", limit=PAGE, after=mark.after or "")
        pages, seen_at = pages + 1, clock.time()
        children = listing_children(page)
        step = _advance(mark, [t for child in children if (t := _time(child))], page["data"].get("after"))
        finished = step.after is None and not (step.restarted and not mark.restarted)
        with store.transaction():
            for child in children:
                keep(store, child, seen_at, source)
            if finished and mark.seen_utc is not None and (step.oldest_utc or 0) > mark.seen_utc:
                store.note_gap(cursor, mark.seen_utc, step.oldest_utc or seen_at, seen_at)
            mark = Mark(seen_utc=step.newest_utc or mark.seen_utc) if finished else step
            store.set_cursor(cursor, json.dumps(asdict(mark)))
        if finished:
            return pages


def _advance(mark: Mark, times: list[float], after: str | None) -> Mark:
    """The mark behind a page with these items; `after` None: the poll is at its end, or begins again."""
    if not times:
        # The item to go on behind was deleted: Reddit then lists nothing. Begin again, once.
        lost = mark.after is not None and not mark.restarted
        return replace(mark, after=None, restarted=mark.restarted or lost)
    newest = max(times) if mark.newest_utc is None else max(mark.newest_utc, *times)
    oldest = min(times) if mark.oldest_utc is None else min(mark.oldest_utc, *times)
    met = mark.seen_utc is not None and oldest <= mark.seen_utc
    onward = None if met or after == mark.after else after  # an `after` that repeats leads nowhere
    return replace(mark, after=onward, newest_utc=newest, oldest_utc=oldest)


def _time(child: Any) -> float | None:
    data = child.get("data") if isinstance(child, dict) else None
    time = data.get("created_utc") if isinstance(data, dict) else None
    return time if isinstance(time, int | float) else None


def keep(store: Store, child: Json, seen_at: float, source: str) -> None:
    """One item of a listing into the store; what can't be used becomes a reject."""
    try:
        store.add(_records(child, seen_at, source))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        line = json.dumps(child).encode()
        store.reject(source, zlib.crc32(line), f"{type(error).__name__}: {error}", line)


def _records(child: Json, seen_at: float, source: str) -> Records:
    data = child["data"]
    if child["kind"] == "t3":
        return [to_post(data, seen_at), to_observation(data, seen_at, source)]
    if child["kind"] != "t1":
        raise ValueError(f"unknown kind {child['kind']!r}")
    reply = to_reply(data, seen_at)
    return [] if reply is None else [reply, to_observation(data, seen_at, source)]

"""Polls a subreddit's newest posts and comments back to the last poll, and records a gap where that fails."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from rfr.reddit.backlog import orphaned_posts
from rfr.reddit.crawler import PAGE_ITEMS, Crawler
from rfr.reddit.field_values import time_of
from rfr.reddit.parse import listing_after, listing_children


@dataclass(frozen=True, kw_only=True)
class ListingCursor:
    """How far a listing was read; committed with every page, so that a kill costs one page.

    `seen_utc` is the newest item of the last whole poll (None: there was none). The rest is of a poll in progress: the item that
    its next page follows, its newest and oldest item so far, and those of its first try where it had to start again.
    """

    seen_utc: float | None = None
    after: str | None = None
    newest_utc: float | None = None
    oldest_utc: float | None = None
    before_restart: tuple[float, float] | None = None  # oldest, newest


async def poll(crawler: Crawler, listing: str) -> int:
    """Read `listing` ("new" or "comments") from the top back to the last poll's newest item; returns the number of pages."""
    store, path, pages = crawler.store, f"{crawler.subreddit}/{listing}", 0
    mark = ListingCursor(**json.loads(store.cursor(path) or "{}"))
    while True:
        page = await crawler.client.get(f"r/{path}", limit=PAGE_ITEMS, after=mark.after or "")
        pages, seen_at = pages + 1, crawler.clock.time()
        crawler.report_progress(f"pages of /{listing}", pages)
        children = listing_children(page)
        step = _advance(mark, [t for child in children if (t := _time(child))], listing_after(page))
        finished = step.after is None and not (step.before_restart and not mark.before_restart)
        with store.transaction():
            crawler.keep(children, seen_at, only_news=True)
            for after_utc, before_utc in _unseen(step) if finished else ():
                store.note_gap(path, after_utc, before_utc, seen_at)
            mark = ListingCursor(seen_utc=_newest(step)) if finished else step
            store.set_cursor(path, json.dumps(asdict(mark)))
        if finished:
            return pages


async def fetch_parent_posts(crawler: Crawler) -> None:
    """Ask for the posts of replies that came by /comments alone; those older than /new reaches are found only so."""
    await crawler.read_again([f"t3_{post_id}" for post_id in orphaned_posts(crawler.store)])


def _advance(mark: ListingCursor, times: list[float], after: str | None) -> ListingCursor:
    """The mark behind a page with these items; `after` None: the poll is at its end, or begins again."""
    if not times:
        if mark.after is None or mark.before_restart or mark.oldest_utc is None or mark.newest_utc is None:
            return replace(mark, after=None)
        # The item that the page should follow was deleted: Reddit then lists nothing. Start again, once.
        return ListingCursor(seen_utc=mark.seen_utc, before_restart=(mark.oldest_utc, mark.newest_utc))
    newest = max(times) if mark.newest_utc is None else max(mark.newest_utc, *times)
    # The page's last item, not its oldest: a single old item too far up must not end the poll.
    oldest = times[-1] if mark.oldest_utc is None else min(mark.oldest_utc, times[-1])
    met = mark.seen_utc is not None and oldest <= mark.seen_utc
    onward = None if met or after == mark.after else after  # an `after` that repeats leads nowhere
    return replace(mark, after=onward, newest_utc=newest, oldest_utc=oldest)


def _newest(mark: ListingCursor) -> float | None:
    known = [mark.seen_utc, mark.newest_utc, mark.before_restart and mark.before_restart[1]]
    return max((time for time in known if time is not None), default=None)


def _unseen(mark: ListingCursor) -> list[tuple[float, float]]:
    """The gap that a finished poll leaves: the times between which items were missed."""
    seen = [(mark.oldest_utc, mark.newest_utc), mark.before_restart]
    spans = sorted((low, high) for low, high in filter(None, seen) if low is not None and high is not None)
    edge, unseen = mark.seen_utc, []
    for low, high in spans:
        if edge is not None and low > edge:
            unseen.append((edge, low))
        edge = high if edge is None else max(edge, high)
    return unseen


def _time(child: Any) -> float | None:
    data = child.get("data") if isinstance(child, dict) else None
    try:
        return time_of(data.get("created_utc"), "created_utc") if isinstance(data, dict) else None
    except ValueError:
        return None

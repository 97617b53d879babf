"""The passes over a subreddit: once, watch, backfill, and refresh of scores."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from rfr.reddit.backlog import due as due_items
from rfr.reddit.crawler import PAGE_ITEMS, Crawler
from rfr.reddit.listings import fetch_parent_posts, poll
from rfr.reddit.parse import listing_after, listing_children
from rfr.reddit.threads import read_changed

PERIODS = ("hour", "day", "week", "month", "year", "all")
# Reddit shows at most 1,000 items of each, so that only their union reaches far back.
LISTINGS = (
    ("new", {}),
    ("hot", {}),
    ("rising", {}),
    *((sort, {"t": period}) for sort in ("top", "controversial") for period in PERIODS),
)


async def crawl_once(crawler: Crawler, *, limit: int = 1000) -> None:
    """Poll the newest posts and comments, then read the replies of up to `limit` threads; each commits whole."""
    for listing in ("new", "comments"):
        await poll(crawler, listing)
    await fetch_parent_posts(crawler)
    await read_changed(crawler, limit)


async def watch(crawler: Crawler, *, every_s: float, limit: int, ages_s: Sequence[float], slack_s: float) -> None:
    """`crawl_once` every `every_s` seconds and readings at the given ages in between; ends only when cancelled."""
    while True:
        began = crawler.clock.monotonic()
        await crawl_once(crawler, limit=limit)
        await refresh(crawler, ages_s, slack_s=slack_s)
        await crawler.clock.sleep(began + every_s - crawler.clock.monotonic())


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGINT or SIGTERM. What is under way is dropped: every page commits whole, so nothing half remains."""
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


async def refresh(crawler: Crawler, ages_s: Sequence[float], *, slack_s: float = 0.0) -> None:
    """A reading of every score that has none since it reached one of these ages, most overdue first.

    Args:
        slack_s: the last request waits until it is full, or one of its items is overdue by so many seconds.
    """
    now = crawler.clock.time()
    due = due_items(crawler.store, crawler.subreddit, ages_s, now)
    full = len(due) - len(due) % PAGE_ITEMS
    crawler.due = len(due)
    pressing = full < len(due) and due[full].overdue_s >= slack_s
    await crawler.read_again([item.name for item in (due if pressing else due[:full])])


async def backfill(crawler: Crawler) -> None:
    """Walk every listing to its end, then read the threads; interrupted, it goes on where it was."""
    cursor = f"{crawler.subreddit}/backfill"
    begun, after = json.loads(crawler.store.cursor(cursor) or "[0, null]")
    for number, (sort, period) in enumerate(LISTINGS[begun:], start=begun):
        crawler.report_progress("listings", number, len(LISTINGS))
        await _walk(crawler, sort, period, cursor, number, after if number == begun else None)
    await read_changed(crawler, limit=None)
    with crawler.store.transaction():
        crawler.store.set_cursor(cursor, "[0, null]")


async def _walk(crawler: Crawler, sort: str, period: dict[str, str], cursor: str, number: int, after: str | None) -> None:
    """One listing from behind `after` to its end, page and cursor in one transaction."""
    restarted = False
    while True:
        page = await crawler.client.get(f"r/{crawler.subreddit}/{sort}", limit=PAGE_ITEMS, after=after or "", **period)
        children = listing_children(page)
        repeats, after = after, listing_after(page)
        # The item that the page should follow was deleted: start again, once.
        lost = repeats is not None and not children and not restarted
        restarted = restarted or lost
        at_end = (after is None or after == repeats) and not lost
        with crawler.store.transaction():
            crawler.keep(children, crawler.clock.time(), only_news=restarted)
            crawler.store.set_cursor(cursor, json.dumps([number + 1, None] if at_end else [number, after]))
        if at_end:
            return

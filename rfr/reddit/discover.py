"""What is new in a subreddit: its listings, polled back to what the last poll saw; a lost overlap goes on record as a gap."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from rfr.reddit.agenda import orphaned_posts
from rfr.reddit.crawler import PAGE, Crawler
from rfr.reddit.things import listing_after, listing_children, seconds


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


async def poll(crawler: Crawler, listing: str) -> int:
    """Read `listing` ("new" or "comments") from the top back to the last poll's newest item; returns the number of pages."""
    store, path, pages = crawler.store, f"{crawler.subreddit}/{listing}", 0
    mark = Mark(**json.loads(store.cursor(path) or "{}"))
    while True:
        page = await crawler.client.get(f"r/{path}", limit=PAGE, after=mark.after or "")
        pages, seen_at = pages + 1, crawler.clock.time()
        crawler.tell(f"pages of /{listing}", pages)
        children = listing_children(page)
        step = _advance(mark, [t for child in children if (t := _time(child))], listing_after(page))
        finished = step.after is None and not (step.restarted and not mark.restarted)
        with store.transaction():
            crawler.keep(children, seen_at, only_news=True)
            if finished and mark.seen_utc is not None and (step.oldest_utc or 0) > mark.seen_utc:
                store.note_gap(path, mark.seen_utc, step.oldest_utc or seen_at, seen_at)
            mark = Mark(seen_utc=step.newest_utc or mark.seen_utc) if finished else step
            store.set_cursor(path, json.dumps(asdict(mark)))
        if finished:
            return pages


async def adopt_orphans(crawler: Crawler) -> None:
    """Ask for the posts of replies that came by /comments alone; those older than /new reaches are found only so."""
    await crawler.read_again([f"t3_{post_id}" for post_id in orphaned_posts(crawler.store)])


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
    try:
        return seconds(data.get("created_utc")) if isinstance(data, dict) else None
    except ValueError:
        return None

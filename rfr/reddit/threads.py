"""The direct replies of posts: one depth-1 tree per post, then /api/info in hundreds for those the tree only names."""

from __future__ import annotations

from rfr.errors import RunFailed
from rfr.reddit.agenda import changed_threads, mark_read
from rfr.reddit.client import Unreadable
from rfr.reddit.crawler import Crawler, hundreds, side_by_side
from rfr.reddit.things import Json, listing_children


async def read_changed(crawler: Crawler, limit: int | None) -> None:
    """Reconcile up to `limit` threads (None: all) never read, or with another comment count since; newest first."""
    changed, done = changed_threads(crawler.store, crawler.subreddit, limit), 0

    async def read(post_id: str) -> None:
        nonlocal done
        await reconcile(crawler, post_id)
        done += 1
        crawler.tell("threads", done, len(changed))

    await side_by_side(read, changed)


async def reconcile(crawler: Crawler, post_id: str) -> None:
    """All direct replies of a post into the store, in one transaction; 1 + ceil(named / 100) requests."""
    try:
        tree = await crawler.client.get(f"comments/{post_id}", depth=1, limit=500)
    except Unreadable:
        with crawler.store.transaction():
            crawler.note_missing([post_id], crawler.clock.time())
            mark_read(crawler.store, post_id)
        return
    if not isinstance(tree, list) or len(tree) != 2:
        raise RunFailed(f"Reddit answered comments/{post_id} with something that is no thread: nothing of it was kept", 1)
    post, replies = listing_children(tree[0]), listing_children(tree[1])
    named = [f"t1_{i}" for child in replies if child["kind"] == "more" for i in child["data"]["children"]]
    found: list[Json] = [*post, *(child for child in replies if child["kind"] != "more")]
    seen_at, absent = crawler.clock.time(), set[str]()
    for names in hundreds(named):
        more, left_out = await crawler.ask(names)
        found += more
        absent |= left_out
    with crawler.store.transaction():
        crawler.keep(found, seen_at)
        crawler.note_missing(absent, seen_at)
        mark_read(crawler.store, post_id)

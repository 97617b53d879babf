"""One pass over a subreddit: what is new, then every thread whose replies may have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from rfr.errors import RunFailed
from rfr.records import Observation
from rfr.reddit.client import Client, Unreadable
from rfr.reddit.clock import Clock
from rfr.reddit.discover import PAGE, keep, poll
from rfr.reddit.things import Json, listing_children
from rfr.store import Store


async def crawl_once(
    client: Client,
    store: Store,
    subreddit: str,
    *,
    limit: int = 1000,
    source: str = "reddit",
    clock: Clock | None = None,
    progress: Callable[[int], None] = lambda threads: None,
) -> None:
    """Poll the newest posts and comments, then read the replies of up to `limit` threads; each commits whole.

    Args:
        clock: its time is stamped on every reading of a score.
        progress: called with the number of threads read so far.
    """
    clock = clock or Clock()
    for listing in ("new", "comments"):
        await poll(client, store, subreddit, listing, clock=clock, source=source)
    for number, post_id in enumerate(store.changed_threads(subreddit, limit), start=1):
        await reconcile(client, store, post_id, clock=clock, source=source)
        progress(number)


async def reconcile(client: Client, store: Store, post_id: str, *, clock: Clock, source: str) -> None:
    """All direct replies of a post: one depth-1 tree, then /api/info in hundreds for those the tree only names."""
    try:
        tree = await client.get(f"comments/{post_id}", depth=1, limit=500)
    except Unreadable:
        with store.transaction():
            store.add([Observation(item_id=post_id, seen_at=clock.time(), source=source, score=None, missing=True)])
            store.mark_read(post_id)
        return
    if not isinstance(tree, list) or len(tree) != 2:
        raise RunFailed(f"Reddit answered comments/{post_id} with something that is no thread: nothing of it was kept", 1)
    post, replies = listing_children(tree[0]), listing_children(tree[1])
    named = [i for child in replies if child["kind"] == "more" for i in child["data"]["children"]]
    found: list[Json] = [*post, *(child for child in replies if child["kind"] != "more")]
    seen_at = clock.time()
    for ids in _hundreds(named):
        found += listing_children(await client.get("api/info", id=",".join(f"t1_{i}" for i in ids)))
    absent = set(named) - {child["data"].get("id") for child in found}
    with store.transaction():
        for child in found:
            keep(store, child, seen_at, source)
        store.add(Observation(item_id=i, seen_at=seen_at, source=source, score=None, missing=True) for i in sorted(absent))
        store.mark_read(post_id)


def _hundreds(ids: Iterable[str]) -> Iterable[list[str]]:
    iterator = iter(ids)
    while chunk := list(islice(iterator, PAGE)):
        yield chunk

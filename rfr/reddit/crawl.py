"""One pass over a subreddit: its newest posts, all their top-level replies, all scores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice

from rfr.records import Observation, Post, Reply
from rfr.reddit.client import Client
from rfr.reddit.clock import Clock
from rfr.reddit.things import Json, listing_children, to_observation, to_post, to_reply
from rfr.store import Store

PAGE = 100  # the most Reddit gives per listing page and per /api/info call


async def crawl_once(
    client: Client,
    store: Store,
    subreddit: str,
    *,
    limit: int = 1000,
    source: str = "reddit",
    clock: Clock | None = None,
    progress: Callable[[int], None] = lambda posts: None,
) -> None:
    """Collect up to `limit` of the newest posts; each thread commits whole, so a stop loses at most one.

    Args:
        clock: its time is stamped on every reading of a score.
        progress: called with the number of posts stored so far.
    """
    clock, stored = clock or Clock(), 0
    async for post in new_posts(client, subreddit, limit):
        seen_at = clock.time()
        records: list[Post | Reply | Observation] = [to_post(post, seen_at), to_observation(post, seen_at, source)]
        for reply in await top_level_replies(client, post["id"]):
            records += _reply_records(reply, clock.time(), source)
        with store.transaction():
            store.add(records)
        stored += 1
        progress(stored)


async def new_posts(client: Client, subreddit: str, limit: int) -> AsyncIterator[Json]:
    """The newest posts, newest first, page by page. Reddit ends the listing after 1,000."""
    after = ""
    seen: set[str] = set()
    while len(seen) < limit:
        page = await client.get(f"r/{subreddit}/new", limit=min(PAGE, limit - len(seen)), after=after)
        fresh = [c["data"] for c in listing_children(page) if c["kind"] == "t3" and c["data"]["id"] not in seen]
        for post in fresh:
            seen.add(post["id"])
            yield post
        after = page["data"].get("after")
        if not after or not fresh:
            return


async def top_level_replies(client: Client, post_id: str) -> list[Json]:
    """All direct replies: one depth-1 tree, then /api/info in hundreds for those the tree only names."""
    tree = await client.get(f"comments/{post_id}", depth=1, limit=500)
    if not isinstance(tree, list) or len(tree) != 2:
        raise ValueError(f"Reddit answered comments/{post_id} with something that is no thread")
    children = listing_children(tree[1])
    replies = [child["data"] for child in children if child["kind"] == "t1"]
    named = [i for child in children if child["kind"] == "more" for i in child["data"]["children"]]
    for ids in _hundreds(named):
        info = await client.get("api/info", id=",".join(f"t1_{i}" for i in ids))
        replies += [child["data"] for child in listing_children(info)]
    return replies


def _reply_records(data: Json, seen_at: float, source: str) -> list[Post | Reply | Observation]:
    reply = to_reply(data, seen_at)
    return [] if reply is None else [reply, to_observation(data, seen_at, source)]


def _hundreds(ids: Iterable[str]) -> Iterable[list[str]]:
    iterator = iter(ids)
    while chunk := list(islice(iterator, PAGE)):
        yield chunk

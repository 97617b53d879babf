"""Reads the direct replies of posts: one tree per post, then /api/info for those the tree only names."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from more_itertools import flatten

from rfr.errors import RunFailed
from rfr.reddit.backlog import changed_threads, comment_count
from rfr.reddit.client import Unreadable
from rfr.reddit.crawler import PAGE_ITEMS, Crawler, run_concurrently
from rfr.reddit.parse import listing_children, named_replies


async def read_changed(crawler: Crawler, limit: int | None) -> None:
    """Reconcile up to `limit` threads (None: all) never read, or with another comment count since; newest first."""
    changed, done = changed_threads(crawler.store, crawler.subreddit, limit), 0

    async def read(post_id: str) -> None:
        nonlocal done
        await reconcile(crawler, post_id)
        done += 1
        crawler.report_progress("threads", done, len(changed))

    await run_concurrently(read, changed)


async def reconcile(crawler: Crawler, post_id: str) -> None:
    """All direct replies of a post into the store in 1 + ceil(named / 100) requests, each answer committed with what is left."""
    begun = crawler.store.cursor(f"more/{post_id}")
    left = _PendingReplies(**json.loads(begun)) if begun else await _read_tree(crawler, post_id)
    while left.names:
        asked, rest = left.names[:PAGE_ITEMS], left.names[PAGE_ITEMS:]
        items, absent = await crawler.ask(asked)
        seen_at, left = crawler.clock.time(), replace(left, names=rest)
        with crawler.store.transaction():
            crawler.keep(items, seen_at)
            crawler.note_missing(absent, seen_at)
            _note(crawler, post_id, left)


@dataclass(frozen=True, kw_only=True)
class _PendingReplies:
    """Full names of the replies still to be asked for, and the comment count of the tree that named them."""

    names: list[str]
    comments: str


async def _read_tree(crawler: Crawler, post_id: str) -> _PendingReplies:
    """Commit what the tree holds; returns what it only names."""
    missing: list[str] = []
    try:
        tree = await crawler.client.get(f"comments/{post_id}", depth=1, limit=500)
    except Unreadable as refusal:
        tree, missing = None, [f"t3_{post_id}"] if refusal.gone else []
    if tree is not None and (not isinstance(tree, list) or len(tree) != 2):
        raise RunFailed(f"Reddit answered comments/{post_id} with something that is no thread: nothing of it was kept", 1)
    children = [child for page in tree or [] for child in listing_children(page)]
    named = [named_replies(child) for child in children]
    seen_at = crawler.clock.time()
    with crawler.store.transaction():
        crawler.keep((child for child, names in zip(children, named, strict=True) if names is None), seen_at)
        crawler.note_missing(missing, seen_at)
        left = _PendingReplies(names=list(flatten(filter(None, named))), comments=comment_count(crawler.store, post_id))
        _note(crawler, post_id, left)
    return left


def _note(crawler: Crawler, post_id: str, left: _PendingReplies) -> None:
    """How far the thread was read. Once it is, it counts as read as of the tree, whatever was polled meanwhile."""
    if left.names:
        crawler.store.set_cursor(f"more/{post_id}", json.dumps(asdict(left)))
    else:
        crawler.store.drop_cursor(f"more/{post_id}")
        crawler.store.set_cursor(f"thread/{post_id}", left.comments)

"""Reads from the store what is left to ask Reddit for: changed threads, unseen posts, due scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rfr.records import NOT_REDDITS
from rfr.store.store import Store

TRIES = 3  # to read a post of which only replies are known
COMMENT_COUNT = """ifnull((SELECT num_comments FROM observation
    WHERE kind = 'post' AND item_id = post.id AND num_comments IS NOT NULL ORDER BY seen_at DESC LIMIT 1), 'unknown')"""
DUE = """
WITH item AS (
    SELECT 'post' AS kind, id, 't3_' || id AS name, created_utc FROM post WHERE subreddit = :subreddit COLLATE NOCASE
    UNION ALL
    SELECT 'reply', reply.id, 't1_' || reply.id, reply.created_utc FROM reply JOIN post ON post.id = post_id
    WHERE subreddit = :subreddit COLLATE NOCASE
), aged AS (
    SELECT kind, id, name, (SELECT created_utc + max(value) FROM json_each(:ages) WHERE created_utc + value <= :now) AS since
    FROM item
)
SELECT name, :now - since FROM aged WHERE since IS NOT NULL AND id NOT LIKE :not_reddits || '%'
    AND since > (SELECT ifnull(max(ifnull(seen_at, -1)), -1) FROM observation
        WHERE observation.kind = aged.kind AND item_id = aged.id)
    AND NOT EXISTS (SELECT 1 FROM observation WHERE observation.kind = aged.kind AND item_id = aged.id AND archived)
ORDER BY since, name
"""


@dataclass(frozen=True, kw_only=True)
class DueItem:
    """An item whose score should be read, by its full name, and for how long it should have been."""

    name: str
    overdue_s: float


def changed_threads(store: Store, subreddit: str, limit: int | None = None) -> list[str]:
    """Ids of posts whose replies were never read, or whose comment count has changed since; newest first."""
    rows = store.rows(
        f"""SELECT id FROM post LEFT JOIN cursor ON name = 'thread/' || id
            WHERE subreddit = ? COLLATE NOCASE AND id NOT LIKE ? || '%' AND (value IS NULL OR value != ({COMMENT_COUNT}))
            ORDER BY created_utc DESC, id LIMIT ifnull(?, -1)""",
        (subreddit, NOT_REDDITS, limit),
    )
    return [post_id for (post_id,) in rows]


def comment_count(store: Store, post_id: str) -> str:
    """How many comments the post had when it was last read, "unknown" where nobody said."""
    rows = store.rows(f"SELECT {COMMENT_COUNT} FROM post WHERE id = ?", (post_id,))
    return str(rows[0][0]) if rows else "unknown"


def orphaned_posts(store: Store) -> list[str]:
    """Ids of posts that only their replies name, and that Reddit has not left out often enough to believe it."""
    rows = store.rows(
        """SELECT DISTINCT post_id FROM reply WHERE post_id NOT IN (SELECT id FROM post) AND post_id NOT LIKE ? || '%'
           AND (SELECT count(*) FROM observation WHERE kind = 'post' AND item_id = post_id AND missing) < ? ORDER BY post_id""",
        (NOT_REDDITS, TRIES),
    )
    return [post_id for (post_id,) in rows]


def due(store: Store, subreddit: str, ages_s: Sequence[float], now: float) -> list[DueItem]:
    """Posts and replies with no reading since they reached the greatest of `ages_s` that they have; most overdue first.

    Items that Reddit has archived are left out: their scores can't change any more.
    """
    rows = store.rows(DUE, {"subreddit": subreddit, "ages": json.dumps(list(ages_s)), "now": now, "not_reddits": NOT_REDDITS})
    return [DueItem(name=name, overdue_s=overdue) for name, overdue in rows]

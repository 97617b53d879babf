"""Reddit's JSON ("things") into records. Judges nothing; refuses what has no id or no parent."""

from __future__ import annotations

from typing import Any

from rfr.records import Observation, Post, Reply

Json = dict[str, Any]


def listing_children(listing: Any) -> list[Json]:
    """The children of a Listing.

    Raises:
        ValueError: the response is not a Listing (an error object, HTML turned to null, ...).
    """
    try:
        children = listing["data"]["children"]
    except (KeyError, TypeError):
        raise ValueError(f"Reddit answered with something that is no listing: {str(listing)[:120]!r}") from None
    return list(children)


def to_post(data: Json, seen_at: float | None) -> Post:
    return Post(
        id=data["id"], subreddit=data["subreddit"], title=data["title"], body=_selftext(data),
        author=_author(data), created_utc=data.get("created_utc"), flair=data.get("link_flair_text"),
        stickied=bool(data.get("stickied")), distinguished=data.get("distinguished"), seen_at=seen_at,
    )  # fmt: skip


def _selftext(data: Json) -> str:
    """The post's text; of a post that was taken down Reddit may show an empty one."""
    return data.get("selftext") or ("[removed]" if data.get("removed_by_category") else "")


def to_reply(data: Json, seen_at: float | None) -> Reply | None:
    """The reply, or None where it answers another comment and not the post."""
    parent = data["parent_id"]
    if not parent.startswith("t3_"):
        return None
    return Reply(
        id=data["id"], post_id=parent.removeprefix("t3_"), body=data.get("body") or "", author=_author(data),
        created_utc=data.get("created_utc"), stickied=bool(data.get("stickied")), distinguished=data.get("distinguished"),
        seen_at=seen_at,
    )  # fmt: skip


def to_observation(data: Json, seen_at: float | None, source: str) -> Observation:
    """A reading of the score. While `score_hidden` is set Reddit reports 1 whatever the score is."""
    return Observation(
        item_id=data["id"],
        seen_at=seen_at,
        source=source,
        score=data.get("score"),
        hidden=bool(data.get("score_hidden")),
        archived=bool(data.get("archived")),
        num_comments=data.get("num_comments"),
    )


def _author(data: Json) -> str | None:
    author = data.get("author")
    return None if author == "[deleted]" else author

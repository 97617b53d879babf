"""Reddit's JSON ("things") into records. Judges nothing; refuses what has no id or no parent, or fields of other types."""

from __future__ import annotations

import math
from typing import Any

from rfr.errors import RunFailed
from rfr.records import Observation, Post, Reply

Json = dict[str, Any]
TEXTS = ("subreddit", "title", "selftext", "body", "author", "link_flair_text", "distinguished")
COUNTS = ("score", "num_comments")
LARGEST = 2**63  # the first number that SQLite can't hold
LATEST = 4_102_444_800  # Unix seconds: the year 2100. A time beyond it is in other units


def listing_children(listing: Any) -> list[Any]:
    """The children of a Listing, as they are.

    Raises:
        RunFailed: the response is not a Listing (an error object, HTML turned to null, ...).
    """
    data = listing.get("data") if isinstance(listing, dict) else None
    children = data.get("children") if isinstance(data, dict) else None
    if not isinstance(children, list):
        raise RunFailed(f"Reddit answered with something that is no listing: {str(listing)[:120]!r}", 1)
    return children


def listing_after(listing: Json) -> str | None:
    """The full name behind which a Listing goes on, None at its end.

    Raises:
        RunFailed: it is no name.
    """
    after = listing["data"].get("after")
    if not isinstance(after, str | None):
        raise RunFailed(f"Reddit's listing goes on behind {after!r}, which is no item's name", 1)
    return after


def named_replies(child: Any) -> list[str] | None:
    """Full names of the replies that a tree's "more" stub stands for; None where the child is no such stub."""
    if not isinstance(child, dict) or child.get("kind") != "more" or not isinstance(child.get("data"), dict):
        return None
    ids = child["data"].get("children")
    if not isinstance(ids, list) or not all(isinstance(i, str) and i.isalnum() for i in ids):
        return None
    return [f"t1_{i}" for i in ids]


def item_id(child: Any) -> Any:
    """The id of a listing's child, whatever it is; None where there is none."""
    data = child.get("data") if isinstance(child, dict) else None
    return data.get("id") if isinstance(data, dict) else None


def validated(data: Any) -> Json:
    """An item's data with every field we read of the type it should have; numbers sent as strings become numbers.

    Raises:
        ValueError: a field is of another type; the message names it.
    """
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    if not isinstance(data.get("id"), str) or not data["id"]:
        raise ValueError("no id")
    odd = [name for name in TEXTS if not isinstance(data.get(name), str | None)]
    if odd:
        raise ValueError(f"{odd[0]} is no text")
    return {
        **data,
        "created_utc": seconds(data.get("created_utc"), "created_utc"),
        **{name: _whole(data.get(name), name) for name in COUNTS},
    }


def _whole(value: Any, name: str) -> int | None:
    if isinstance(value, str):
        raise ValueError(f"{name} {value!r:.60} is no whole number")
    return whole_number(value, name)


def whole_number(value: Any, name: str) -> int | None:
    """A whole number that the store can hold, from a number or a text.

    Raises:
        ValueError: it is none; the message has `name`.
    """
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not -LARGEST <= number < LARGEST or not number.is_integer():
        raise ValueError(f"{name} {value!r:.60} is no whole number")
    return int(value) if isinstance(value, int) else int(number)


def seconds(value: Any, name: str) -> float | None:
    """Unix seconds from the field of this name, which some months' dumps hold as strings.

    Raises:
        ValueError: it is no time.
    """
    if value is None or value == "":
        return None
    try:
        time = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        time = math.nan
    if not 0 <= time < LATEST:  # nor is NaN
        raise ValueError(f"{name} {value!r:.60} is no time in Unix seconds")
    return time


def to_post(data: Json, seen_at: float | None) -> Post:
    return Post(
        id=data["id"], subreddit=_required(data, "subreddit"), title=_required(data, "title"), body=_selftext(data),
        author=data.get("author"), created_utc=data.get("created_utc"), flair=data.get("link_flair_text"),
        stickied=bool(data.get("stickied")), distinguished=data.get("distinguished"), seen_at=seen_at,
    )  # fmt: skip


def _required(data: Json, name: str) -> str:
    if not data.get(name):
        raise ValueError(f"no {name}")
    return data[name]


def _selftext(data: Json) -> str:
    """The post's text; of a post that was taken down Reddit may show an empty one."""
    return data.get("selftext") or ("[removed]" if data.get("removed_by_category") else "")


def to_reply(data: Json, seen_at: float | None) -> Reply | None:
    """The reply, or None where it answers another comment and not the post."""
    if data.get("parent_id") is None:
        raise ValueError("no parent")
    parent = str(data["parent_id"])  # some months' dumps hold comments' numbers
    if not parent.startswith("t3_"):
        return None
    return Reply(
        id=data["id"], post_id=parent.removeprefix("t3_"), body=data.get("body") or "", author=data.get("author"),
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

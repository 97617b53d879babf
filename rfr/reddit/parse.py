"""Turns Reddit's JSON into records; refuses items without an id or a parent, or with fields of other types."""

from __future__ import annotations

from typing import Any

from rfr.errors import RunFailed
from rfr.records import DELETED, Kind, Observation, Post, Reply
from rfr.reddit.field_values import flag, id_of, text_of, time_of, whole_number

Json = dict[str, Any]
READERS = {
    **dict.fromkeys(("subreddit", "title", "selftext", "body", "author", "link_flair_text", "distinguished"), text_of),
    **dict.fromkeys(("score", "num_comments"), whole_number),
    **dict.fromkeys(("stickied", "score_hidden", "archived"), flag),
    "created_utc": time_of,
}
AS_SENT = ("link_id", "parent_id", "removed_by_category")  # as they are; the functions below check them
ABSENT = {name: False if reader is flag else None for name, reader in READERS.items()}


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
        RunFailed: `after` is no name of an item.
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


def full_name(child: Any) -> str:
    """The kind and the id of a listing's child, whatever they are: t3_abc."""
    data = child.get("data") if isinstance(child, dict) else None
    return f"{child.get('kind')}_{data.get('id')}" if isinstance(data, dict) else ""


def validated(data: Any, kind: Kind) -> Json:
    """The fields of an item that we read, each of the type it should have; what was sent as text is read.

    Raises:
        ValueError: a field is of another type; the message names it.
    """
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    item_id = id_of(data.get("id"), "id", kind)
    if item_id is None:
        raise ValueError("no id")
    read = {name: reader(data[name], name) if data.get(name) is not None else ABSENT[name] for name, reader in READERS.items()}
    read |= {name: data.get(name) for name in AS_SENT}
    return read | {"id": item_id[0].lower(), "kind": kind, "deleted": was_deleted_later(data)}


def was_deleted_later(data: Json) -> bool:
    """Whether a dump says that the item was deleted after it was read."""
    meta = data.get("_meta")
    return isinstance(meta, dict) and flag(meta.get("was_deleted_later"), "_meta.was_deleted_later")


def to_post(data: Json, seen_at: float | None) -> Post:
    """A post from validated data."""
    gone = DELETED if data["deleted"] else None
    return Post(
        id=data["id"],
        subreddit=_required(data, "subreddit"),
        title=gone or _required(data, "title"),
        body=gone or _selftext(data),
        author=gone or data["author"],
        created_utc=data["created_utc"],
        flair=None if gone else data["link_flair_text"],
        stickied=data["stickied"],
        distinguished=data["distinguished"],
        seen_at=seen_at,
        deleted=data["deleted"],
    )


def _required(data: Json, name: str) -> str:
    if not data[name]:
        raise ValueError(f"no {name}")
    return data[name]


def _selftext(data: Json) -> str:
    """The post's text; of a post that was taken down Reddit may show an empty one."""
    return data["selftext"] or ("[removed]" if text_of(data.get("removed_by_category"), "removed_by_category") else "")


def to_reply(data: Json, seen_at: float | None) -> Reply | None:
    """The reply, or None where it answers another comment and not the post; of validated data."""
    post_id = _answered_post(data)
    if post_id is None:
        return None
    gone = DELETED if data["deleted"] else None
    return Reply(
        id=data["id"],
        post_id=post_id,
        body=gone or data["body"] or "",
        author=gone or data["author"],
        created_utc=data["created_utc"],
        stickied=data["stickied"],
        distinguished=data["distinguished"],
        seen_at=seen_at,
        deleted=data["deleted"],
    )


def _answered_post(data: Json) -> str | None:
    """The id of the post that a comment answers directly, or None.

    `link_id` names the post of the thread. `parent_id` names what is answered: the post where its prefix says so, where it equals
    `link_id`, and where it is absent.
    """
    parent, link = data.get("parent_id"), id_of(data.get("link_id"), "link_id", "post")
    if type(parent) is int or (isinstance(parent, str) and parent[:3].lower() == "t1_"):
        return None  # some months' dumps hold numbers of comments
    answered = id_of(parent, "parent_id", "post") or link
    if answered is None:
        raise ValueError("no parent")
    post_id, is_full_name = answered
    if not is_full_name and link is None:
        raise ValueError(f"parent_id {post_id!r:.60} has no prefix, and there is no link_id: post or comment?")
    return post_id.lower() if is_full_name or (link is not None and post_id == link[0]) else None


def to_observation(data: Json, seen_at: float | None, source: str) -> Observation:
    """A reading of the score. While `score_hidden` is set Reddit reports 1 whatever the score is. Of validated data."""
    return Observation(
        kind=data["kind"],
        item_id=data["id"],
        seen_at=seen_at,
        source=source,
        score=data["score"],
        hidden=data["score_hidden"],
        archived=data["archived"],
        num_comments=data["num_comments"],
    )

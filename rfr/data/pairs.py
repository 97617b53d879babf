"""A thread into prompt-response pairs, and the reasons why some of them stay out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from rfr.data.prompts import asks_for_no_story, tagged_title
from rfr.records import GONE, Pair, Reply, Thread

BOT = re.compile(r"(?:Bot|BOT|[-_]bot)$|(?i:^automoderator$|prompts?bot$|^(?:sneakpeek|remindme|autowiki)bot$)")  # but not Talbot


def thread_pairs(thread: Thread) -> list[tuple[Pair, str | None]]:
    """Every reply as a pair, with the reason why it is none to learn from, or None."""
    return [(_to_pair(thread, reply), _reason_against(thread, reply)) for reply in thread.replies]


def scored_stories(threads: Iterable[Thread], clean: Callable[[Pair], Pair | str]) -> list[list[Pair]]:
    """The stories of each thread that has any, cleaned, whose karma is known."""
    kept = []
    for thread in threads:
        cleaned = [clean(pair) for pair, reason in thread_pairs(thread) if reason is None and pair.score is not None]
        if stories := [pair for pair in cleaned if isinstance(pair, Pair)]:
            kept.append(stories)
    return kept


def _reason_against(thread: Thread, reply: Reply) -> str | None:
    if reply.body.strip() in GONE or not reply.body.strip():
        return "deleted or removed"
    if thread.post.title.strip() in GONE:
        return "prompt deleted or removed"
    if tag := asks_for_no_story(thread.post):
        return f"replies to a [{tag}] post"
    if reply.stickied or reply.distinguished:
        return "moderator"
    if BOT.search(reply.author or ""):
        return "bot"
    return None


def _to_pair(thread: Thread, reply: Reply) -> Pair:
    post, post_reading, reading = thread.post, thread.observations.get(thread.post.id), thread.observations.get(reply.id)
    return Pair(
        thread_id=post.id,
        reply_id=reply.id,
        prompt=tagged_title(post),
        response=reply.body,
        score=reading.score if reading else None,
        post_score=post_reading.score if post_reading else None,
        created_utc=reply.created_utc,
        delay_s=_difference(reply.created_utc, post.created_utc),
        score_age_s=_difference(reading.seen_at if reading else None, reply.created_utc),
    )


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier

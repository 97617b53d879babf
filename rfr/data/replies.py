"""Turns a thread into stories, and gives the reason why a reply is left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from rfr.data.clean.titles import no_story_tag, tagged_title
from rfr.records import Observation, Post, Reply, Story, Thread, is_gone

POST_UNKNOWN = "post unknown"
MIN_AGE_H = 1.0  # hours after which a score is karma
BOT = re.compile(r"(?:Bot|BOT|[-_]bot)$|(?i:^automoderator$|prompts?bot$|^(?:sneakpeek|remindme|autowiki)bot$)")  # but not Talbot

PROFILE = re.compile(r"^/?u/", re.IGNORECASE)  # some write it before a name


def thread_stories(thread: Thread, min_age_h: float = MIN_AGE_H) -> list[tuple[Story, str | None]]:
    """Every reply as a story, with the reason why nothing is learnt from it, or None.

    Args:
        min_age_h: hours after posting; a score that was read earlier counts as unknown, since nobody had voted yet.
    """
    return [(_to_story(thread, reply, 3600 * min_age_h), _exclusion_reason(thread, reply)) for reply in thread.replies]


def scored_stories(
    threads: Iterable[Thread], clean: Callable[[Story], Story | str], min_age_h: float = MIN_AGE_H
) -> list[list[Story]]:
    """The stories of each thread that has any, cleaned, whose karma is known."""
    kept = []
    for thread in threads:
        good = [story for story, reason in thread_stories(thread, min_age_h) if reason is None and story.score is not None]
        if stories := [story for story in map(clean, good) if isinstance(story, Story)]:
            kept.append(stories)
    return kept


def _exclusion_reason(thread: Thread, reply: Reply) -> str | None:
    if not thread.post.title:
        return POST_UNKNOWN
    if is_gone(reply.body) or not reply.body.strip():
        return "deleted or removed"
    if is_gone(thread.post.title):
        return "prompt deleted or removed"
    if tag := no_story_tag(thread.post):
        return f"replies to a [{tag}] post"
    if reply.stickied or reply.distinguished:
        return "moderator"
    if BOT.search(PROFILE.sub("", (reply.author or "").strip())):
        return "bot"
    return None


def _to_story(thread: Thread, reply: Reply, min_age_s: float) -> Story:
    post, reading = thread.post, thread.observations.get(reply.id)
    return Story(
        thread_id=post.id,
        reply_id=reply.id,
        prompt=tagged_title(post),
        response=reply.body,
        score=_karma(reading, reply, min_age_s),
        post_score=_karma(thread.post_observation, post, min_age_s),
        created_utc=reply.created_utc,
        delay_s=_difference(reply.created_utc, post.created_utc),
        score_age_s=_difference(reading.seen_at if reading else None, reply.created_utc),
    )


def is_too_young(reading: Observation | None, item: Post | Reply, min_age_s: float) -> bool:
    """Whether a score was read so soon after posting that it says nothing; one of unknown age says what it says."""
    age = _difference(reading.seen_at if reading else None, item.created_utc)
    return min_age_s > 0 and age is not None and age < min_age_s


def _karma(reading: Observation | None, item: Post | Reply, min_age_s: float) -> int | None:
    return None if reading is None or is_too_young(reading, item, min_age_s) else reading.score


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier

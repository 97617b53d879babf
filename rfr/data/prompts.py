"""Titles into prompts of one form, `[TAG] text`; the tag is the post's flair, which moderators set, else the title's own."""

from __future__ import annotations

import re

from rfr.data.text import plain_text
from rfr.records import Post

TAG = re.compile(r"^\s*\[?\s*(wp|eu|pi|rf|cw|tt|sp|cc|mp|ip|ot|pm)\s*(?:[\]:]\s*|\s)", re.IGNORECASE)
IN_BRACKETS = re.compile(r"^\s*[\[(]\s*(pi|cc|ot|pm|mod)\s*[\])]", re.IGNORECASE)  # "PI day" is no such post
NO_PROMPT = {"PI", "CC", "OT", "PM", "MOD"}  # the story is the post's own, or there is none: replies talk about it
FLAIRS = {
    "writing prompt": "WP", "simple prompt": "SP", "established universe": "EU", "reality fiction": "RF",
    "constrained writing": "CW", "theme thursday": "TT", "image prompt": "IP", "media prompt": "MP", "prompt inspired": "PI",
    "prompt me": "PM", "constructive criticism": "CC", "off topic": "OT", "moderator post": "MOD", "mod post": "MOD",
}  # fmt: skip
TAGS = frozenset(FLAIRS.values())


def tagged_title(post: Post) -> str:
    """The title under the tag of its flair, where that is one of the subreddit's; else as it is."""
    tag = _flair_tag(post.flair)
    return post.title if tag is None else f"[{tag}] {TAG.sub('', post.title)}"


def asks_for_no_story(post: Post) -> str | None:
    """The tag of a post whose replies are no stories, or None."""
    in_title = IN_BRACKETS.match(post.title)
    tag = _flair_tag(post.flair) or (in_title[1].upper() if in_title else None)
    return tag if tag in NO_PROMPT else None


def _flair_tag(flair: str | None) -> str | None:
    words = " ".join(re.findall(r"[a-z]+", (flair or "").lower()))
    return FLAIRS.get(words, words.upper() if words.upper() in TAGS else None)


def canonical_prompt(title: str) -> str:
    """The title on one line, its tag in the form `[WP]`; a title without a tag counts as [WP]."""
    title = re.sub(r"\s+", " ", plain_text(title))
    tag = TAG.match(title)
    return f"[{tag[1].upper() if tag else 'WP'}] {TAG.sub('', title)}"


def without_tag(prompt: str) -> str:
    """What a prompt says beside its tag."""
    return TAG.sub("", prompt)

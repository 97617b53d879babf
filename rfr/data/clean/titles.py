"""Turns titles into prompts of one form, `[TAG] text`; the tag is the post's flair, else the title's own."""

from __future__ import annotations

import re

from rfr.data.clean.markdown import plain_text
from rfr.records import Post

_TAGS = "wp|eu|pi|rf|cw|tt|sp|cc|mp|ip|ot|pm"
# "PM says no" begins with a word; so a tag stands in brackets, before a colon, or is WP.
TAG = re.compile(rf"^\s*(?:[\[(]\s*({_TAGS})\s*[\])]\s*:?\s*|({_TAGS})\s*:\s*|(wp)\s+)", re.IGNORECASE)
BARE_TAG = re.compile(rf"^({_TAGS})\s+")
STRIPPED = re.compile(r"[a-z0-9' ]*")  # a title that a data set's maker has robbed of capitals and signs, brackets too
IN_BRACKETS = re.compile(r"^\s*[\[(]\s*(pi|cc|ot|pm|mod)\s*[\])]", re.IGNORECASE)  # "PI day" is no such post
NO_PROMPT = {"PI", "CC", "OT", "PM", "MOD"}  # the story is the post's own, or there is none: replies talk about it
FLAIRS = {
    "writing prompt": "WP",
    "simple prompt": "SP",
    "established universe": "EU",
    "reality fiction": "RF",
    "constrained writing": "CW",
    "theme thursday": "TT",
    "image prompt": "IP",
    "media prompt": "MP",
    "prompt inspired": "PI",
    "prompt me": "PM",
    "constructive criticism": "CC",
    "off topic": "OT",
    "moderator post": "MOD",
    "mod post": "MOD",
}
TAGS = frozenset(FLAIRS.values())


def tagged_title(post: Post) -> str:
    """The title under the tag of its flair, where that is one of the subreddit's; else as it is."""
    tag = _flair_tag(post.flair)
    return post.title if tag is None else f"[{tag}] {_tag_and_rest(post.title)[1]}"


def no_story_tag(post: Post) -> str | None:
    """The tag of a post whose replies are no stories, or None."""
    in_title = IN_BRACKETS.match(post.title)
    tag = _flair_tag(post.flair) or (in_title[1].upper() if in_title else None)
    return tag if tag in NO_PROMPT else None


def _flair_tag(flair: str | None) -> str | None:
    words = " ".join(re.findall(r"[a-z]+", (flair or "").lower()))
    return FLAIRS.get(words, words.upper() if words.upper() in TAGS else None)


def canonical_prompt(title: str) -> str:
    """The title on one line, its tag in the form `[WP]`; a title without a tag counts as [WP]."""
    tag, rest = _tag_and_rest(re.sub(r"\s+", " ", plain_text(title)))
    return f"[{tag or 'WP'}] {rest}"


def without_tag(prompt: str) -> str:
    """The prompt without its tag."""
    return _tag_and_rest(prompt)[1]


def _tag_and_rest(title: str) -> tuple[str | None, str]:
    match = TAG.match(title) or (BARE_TAG.match(title) if STRIPPED.fullmatch(title) else None)
    if match is None:
        return None, title
    return next(tag for tag in match.groups() if tag).upper(), title[match.end() :]

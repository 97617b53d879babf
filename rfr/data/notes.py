"""What authors write around their stories, to their readers: edits, apologies, thanks, where to find more of theirs."""

from __future__ import annotations

import re

from rfr.data.text import Removals

LONGEST = 700  # characters of a paragraph that may be a note; a longer one is taken for story
_AT_START = (
    r"edit(?:ed|s|ing)?\b\s*#?\d*\s*(?:[:;,.\-–—)\]]|(?:for|to|thanks?|wow|part|i|the|fixed|added|made|just|story)\b)",
    r"(?:eta|tl;?dr|p\.?s\.?|fyi|ooc|cc)\s*[:\-]",
    r"a\s*[/.]\s*n\b",
    r"author'?s?'?\s+notes?\b",
    r"(?:please |fun |side |quick |small |brief |just a )?notes?\s*[:\-]",
    r"disclaimers?\b\s*[:\-]",
    r"(?:trigger |content |nsfw |spoiler )?warnings?\s*[:\-]",
    r"\W*nsf[wl]\b",
    r"(?:my|this is my|it'?s my)?\s*(?:very )?first (?:time|wp|prompt|submission|post|story|response|reply|attempt|"
    r"ever|try|writing)\b",
    r"(?:hi|hello|hey)\b[^.\n]{0,40}\b(?:feedback|new to|first)\b",
    r"(?:i'?m|i am) (?:new|on mobile|not a|fairly new|relatively new)\b",
    r"(?:sorry|apologi[sz]e|my apologies|apologies|forgive)\b.{0,120}\b(?:format|mobile|grammar|spelling|typos?|"
    r"ending|short|long|late|prompt|"
    r"errors?|mistakes?|phone|bad|written|meant)",
    r"(?:written|typed|wrote|posted|posting|done|i'?m|sorry)?\s*(?:this )?(?:on|from) (?:my )?(?:mobile|phone)\b",
    r"i (?:wrote|write|typed|made|did) this\b",
    r"(?:so )?(?:this|that) (?:is|was|got|turned out)\b.{0,60}\b(?:first|longer|feedback|prompt|wrote|write)\b",
    r"(?:obligatory|inspired by|credit to|continued from|continuation of)\b",
    r"(?:thanks?|thank you|thx|cheers)\b.{0,200}\b(?:read|gold|prompt|silver|award|feedback|upvotes?|op|kind|"
    r"stranger|guys|everyone|enjoy)",
    r".{0,120}\b(?:feedback|criticisms?|critiques?|concrit|cc)\b.{0,80}\b(?:welcome|appreciated|encouraged|great|"
    r"good|nice|please|helpful|loved)",
    r"(?:any|all|please).{0,60}\b(?:feedback|criticism|critique)\b",
    r"(?:i )?(?:really )?hope (?:you|y'?all|that|this|it)\b.{0,60}\b(?:like|enjoy|liked|enjoyed|okay|ok)\b",
    r"if (?:you|y'?all|anyone|people)(?:'?ve)? (?:liked?|enjoy(?:ed)?|made it|want(?:ed)?|have enjoyed|would like|"
    r"'?d like)\b",
    r"(?:did you )?(?:like|liked|enjoy|enjoyed) (?:that|this|it|my|what)\b",
    r"(?:for more|more (?:of my|stories|at|on|like)|read (?:more|my|the rest)|see more|check (?:it |me )?out|"
    r"come visit|visit|join|subscribe|follow me|"
    r"find more|you can (?:find|read)|my (?:subreddit|sub|blog|patreon|website|wattpad))\b.{0,160}(?:r/|sub|stor|"
    r"blog|site|patreon|work|writing|here|u/)",
    r"(?:part|chapter) (?:\d+|one|two|three|four|ii|iii|iv)\b.{0,40}\b(?:here|below|link|reply|comments?|coming|soon|up)\b",
    r"(?:to be continued|tbc|continued (?:in|below|here)|part \d+ (?:below|here)|\[?(?:part|next|"
    r"continue)[^\n]{0,30}\]?\(?<url>)",
    r"created a? ?(?:reddit )?account\b",
    r"(?:constructive|any)\b.{0,40}\bcriticism\b",
)  # fmt: skip
NOTE = re.compile(r"^[\W_]*(?:" + "|".join(_AT_START) + ")", re.IGNORECASE | re.DOTALL)
EDIT = re.compile(r"^[\W_]*edit(?:ed|s)?\b\s*#?\d*\s*[:\-–—]", re.IGNORECASE)
MENTION = re.compile(
    r"^\W*(?:more (?:at|on|in)|join|visit|see|check out|from|by|at|on|subscribe to|join the agents of)?\W*/?(?:r|u)/\w+\W*$",
    re.IGNORECASE,
)
FOOTER = re.compile(
    r"^.{0,200}(?:/?\br/\w{3,}|\bmy (?:subreddit|patreon|blog|website)\b|patreon\.com|\bsubscrib)", re.IGNORECASE | re.DOTALL
)
COUNT = re.compile(r"^\W*(?:\d{1,4}/365|word ?count\W*\d+|\(?\d{2,4} words\)?|wc\W*\d+)\W*$", re.IGNORECASE)


def without_notes(text: str, removals: Removals) -> str:
    """The story alone: paragraphs to the reader at its beginning and end are gone, and edit notes anywhere."""
    paragraphs = text.split("\n")
    first, last = 0, len(paragraphs)
    while last > first and (not paragraphs[last - 1].strip() or _closes(paragraphs[last - 1])):
        last -= 1
    while first < last and (not paragraphs[first].strip() or _opens(paragraphs[first])):
        first += 1
    kept = []
    for index, paragraph in enumerate(paragraphs):
        inside = first <= index < last and not EDIT.match(paragraph)
        if inside:
            kept.append(paragraph)
        elif paragraph.strip():
            removals.note("note", paragraph)
    return "\n".join(kept).strip()


def _opens(paragraph: str) -> bool:
    return len(paragraph) <= LONGEST and any(pattern.match(paragraph) for pattern in (NOTE, MENTION, COUNT))


def _closes(paragraph: str) -> bool:
    return _opens(paragraph) or (len(paragraph) <= LONGEST and bool(FOOTER.match(paragraph)))

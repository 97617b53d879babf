"""Removes what authors write to their readers around a story: edits, thanks, apologies, links to more."""

from __future__ import annotations

import re
from itertools import compress
from operator import not_

from rfr.data.clean.markdown import Removals

LONGEST_CHARACTERS = 700  # characters of a paragraph that may be a note; a longer one is taken for story
_AT_START = (
    r"edit(?:ed|s|ing)?\b\s*#?\d*\s*(?:[:;,.\-–—)\]]|(?:for|to|thanks?|wow|part|i|the|fixed|added|made|just|story)\b)",
    r"(?:eta|tl;?dr|fyi|ooc|cc)\s*[:\-]",
    r"p\.?s\.?\s*[:\-].{0,200}\b(?:prompt|story|writing|feedback|read|sub|reddit|post)\b",
    r"a\s*[/.]\s*n\b",
    r"author'?s?'?\s+notes?\b",
    r"(?:please |fun |side |quick |small |brief |just a )?notes?\s*[:\-].{0,300}\b(?:i|my|prompt|story|stories|writ\w+|reader\w*|"
    r"reading|feedback|post|edit|sub|reddit|part|mobile|english|formatting|perspective|pov)\b",
    r"disclaimers?\b\s*[:\-]",
    r"(?:trigger |content |nsfw |spoiler )warnings?\s*[:\-]",
    r"warnings?\s*[:\-].{0,200}\b(?:nsf[wl]|gore|language|content|violen\w+|graphic|spoilers?|long|story|sex\w*|abuse|suicide|formatt\w+)\b",
    r"\W*nsf[wl]\b",
    r"(?:my|this is my|it'?s my)?\s*(?:very )?first (?:wp|prompt|submission|post|response|reply)\b",
    r"(?:my|this is my|it'?s my) (?:very )?first (?:story|try|attempt)\b",
    r"(?:my|this is my|it'?s my)?\s*(?:very )?first (?:time|attempt|ever|try|writing)\b.{0,80}\b(?:wp|sub|prompts?|reddit|"
    r"post\w*|submi\w+|feedback|writing|responding|respon\w+|criti\w+|here|story)\b",
    r"(?:hi|hello|hey)\b[^.\n]{0,40}\b(?:feedback|new to|first (?:time|post|prompt))\b",
    r"(?:i'?m|i am) (?:(?:fairly |relatively |very )?new (?:to|at|here)\b.{0,60}\b(?:wp|sub|subreddit|reddit|writing|prompts?)|"
    r"on mobile|not a (?:native|writer|good writer|great writer|professional writer))\b",
    r"(?:sorry|apologi[sz]e|my apologies|apologies|forgive)\b.{0,120}\b(?:format\w*|mobile|grammar|grammatical|spelling|typos?|"
    r"the ending|(?:it|this|that|it's|its|was|is|so|too|bit|how|being) (?:\w+ )?(?:short|long|late|bad|rushed)|prompt|"
    r"(?:any|for|the|my) (?:errors?|mistakes?)|english|(?:my|a|on) phone|(?:i|what you) meant)\b",
    r"(?:written|typed|wrote|posted|posting|done|sorry)\s*(?:this |it )?(?:on|from) (?:my )?(?:mobile|phone)\b",
    r"(?:on|from) mobile\b",
    r"i (?:wrote|write|typed|made|did) this\b.{0,80}\b(?:phone|mobile|minutes?|hours?|quick\w*|prompt|at work|class|"
    r"reddit|sub|in bed|feedback|ago|hurry|rush|a while|sorry|formatt\w+)\b",
    r"(?:so )?(?:this|that) (?:is|was|got|turned out)\b.{0,60}\b(?:my (?:very )?first (?:time|wp|prompt|post|story|submission|"
    r"response|attempt|try|writing|ever)|longer than (?:i|expected|intended|planned)|feedback|prompt|to write|i wrote)\b",
    r"obligatory\b.{0,60}\b(?:reddit|sub|edit|mobile|first)\b",
    r"inspired by\b.{0,80}\b(?:prompt|post|song|comment|wp|episode|movie|film|novel|book|u|r|url)\b",
    r"(?:credit to|continued from|continuation of)\b",
    r"(?:thanks?|thank you|thx|cheers)\b.{0,200}\b(?:read|reading|gold|prompt|silver|awards?|feedback|upvotes?|op|kind stranger|"
    r"guys|everyone)\b",
    r"(?:.{0,80}\b(?:any|all|some|more|your|honest|constructive|and)\b.{0,30}\b)?(?:feedback|criticisms?|critiques?|concrit|cc)\b"
    r".{0,80}\b(?:welcome|appreciated|encouraged|great|good|nice|please|helpful|loved)",
    r"(?:any|all|please).{0,60}\b(?:feedback|criticism|critique)\b",
    r"(?:i )?(?:really )?hope (?:you|y'?all|that|this|it)\b.{0,60}\b(?:like|enjoy|liked|enjoyed)\b(?: (?:it|this|that|"
    r"the (?:story|read)|my \w+|reading)\b|\W*$)",
    r"(?:i )?(?:really )?hope (?:that |this |it )+(?:is|was|'s)\b.{0,40}\b(?:okay|ok)\b",
    r"if (?:you|y'?all|anyone|people)(?:'?ve)? (?:liked?|enjoy(?:ed)?|made it|want(?:ed)?|have enjoyed|would like|'?d like)\b"
    r".{0,120}\b(?:more|stories|story|writing|work|sub|subreddit|r|read|part|continue\w*|feedback|this far|upvote|blog|"
    r"let me know)\b",
    r"(?:did you )?(?:like|liked|enjoy|enjoyed) (?:that|this|it|my|what)\b.{0,80}\b(?:more|sub|subreddit|r|stories|story|check|"
    r"follow|writing|work)\b",
    r"(?:for more|more (?:of my|stories|at|on|like)|read (?:more|my|the rest)|see more|check (?:it |me )?out|"
    r"find more|you can (?:find|read)|my (?:subreddit|sub|blog|patreon|website|wattpad))\b.{0,160}(?:r/|subreddit|\bsub\b|stor|"
    r"blog|site|patreon|work|writing|here|u/)",
    r"(?:come visit|visit|join|subscribe|follow me)\b.{0,160}(?:\br/\w|subreddit|\bmy (?:sub|site|blog|page|other|stor\w+)\b|"
    r"patreon|more stor|\bu/\w)",
    r"(?:part|chapter) (?:\d+|one|two|three|four|ii|iii|iv)\b.{0,40}\b(?:here|below|link|reply|comments?|coming|soon|up)\b",
    r"(?:to be continued|tbc)\b(?:\W*$|.{0,60}\b(?:part|here|below|tomorrow|later|soon|reply|comments?)\b)",
    r"(?:continued (?:in|below|here)|part \d+ (?:below|here)|\[?(?:part|next|continue)[^\n]{0,30}\]?\(?<url>)",
    r"created a? ?(?:reddit )?account\b",
    r"constructive\b.{0,40}\bcriticism\b",
)
# A paragraph that opens with a quotation mark is speech.
NOTE = re.compile(r"^(?!\W*[\"“‘])[\W_]*(?:" + "|".join(_AT_START) + ")", re.IGNORECASE | re.DOTALL)
EDITED = re.compile("edit", re.IGNORECASE)
EDIT = re.compile(r"^[\W_]*edit(?:ed|s)?\b\s*#?\d*\s*[:\-–—]", re.IGNORECASE)
MENTION = re.compile(
    r"^\W*(?:more (?:at|on|in)|join|visit|see|check out|from|by|at|on|subscribe to|join the agents of)?\W*/?(?:r|u)/\w+\W*$",
    re.IGNORECASE,
)
FOOTER = re.compile(
    r"^.{0,200}(?:/?\br/\w{3,}|\bmy (?:subreddit|patreon)\b|patreon\.com|"
    r"\bsubscrib\w* (?:to|for|at|here)\b.{0,40}\b(?:sub|more|here|my)\b|"
    r"\bmy (?:blog|website)\b.{0,80}\b(?:here|at|more|read|link|url)\b)",
    re.IGNORECASE | re.DOTALL,
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
    inside = paragraphs[first:last]
    edits = [EDIT.match(paragraph) is not None for paragraph in inside] if EDITED.search(text) else [False] * len(inside)
    for paragraph in (*paragraphs[:first], *compress(inside, edits), *paragraphs[last:]):
        if paragraph.strip():
            removals.note("note", paragraph)
    return "\n".join(compress(inside, map(not_, edits))).strip()


def _opens(paragraph: str) -> bool:
    return len(paragraph) <= LONGEST_CHARACTERS and any(pattern.match(paragraph) for pattern in (NOTE, MENTION, COUNT))


def _closes(paragraph: str) -> bool:
    return _opens(paragraph) or (len(paragraph) <= LONGEST_CHARACTERS and bool(FOOTER.match(paragraph)))

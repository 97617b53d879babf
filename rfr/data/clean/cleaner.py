"""Cleans a story, or gives the reason why it is left out. Pure; the caller counts the reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rfr.data.clean.author_notes import without_notes
from rfr.data.clean.markdown import Removals, plain_text
from rfr.data.clean.titles import canonical_prompt, without_tag
from rfr.errors import require_whole
from rfr.ranges import Count
from rfr.records import Story

# Phrases that only a notice has, with or without punctuation. A story may speak of bots and moderators.
_POST = r"(?:post|prompt|submission|comment|story)"
_TO_READERS = r"\b(?:mod(?:erator)?s|modmail|rules?|sub(?:reddit)?|r\s*/\s*\w+)\b"
SIGNATURE = re.compile(r"\bI am a bot\s*,\s*and this action was performed automatically", re.IGNORECASE)
STICKY = re.compile(
    r"^\W*Off\s*-?\s*Topic Discussion\W*:"
    r"|^.{0,400}?\b(?:all|every|any) top\s*-?\s*level (?:comments?|repl(?:y|ies)) "
    r"(?:must|should|ha(?:s|ve) to|needs? to|are to) be\b"
    r"|^\W*(?:please )?(?:keep|reserve|use) (?:all |any )?.{0,60}\b(?:under|in|to|for) this (?:note|comment|sticky|thread)\b"
    r"|^\W*I will be messaging you .{0,80}\bremind you\b"
    r"|^\W*Removed\b.{0,40}\bRule \d",
    re.IGNORECASE | re.DOTALL,
)
TAKEN_DOWN = re.compile(
    rf"^\W*(?:hi|hello|hey)\b.{{0,60}}\b(?:this|your) {_POST} (?:has been|was) removed\b"
    rf"|^.{{0,200}}?\b(?:this|your) {_POST} (?:has been|was) removed\b(?=.*?{_TO_READERS})"
    r"|\b(?:message|contact) the mod(?:erator)?s "
    r"(?:of this sub(?:reddit)?|if you (?:have|feel|think|believe)|with any (?:questions|concerns))",
    re.IGNORECASE | re.DOTALL,
)
NOTICES = (SIGNATURE, STICKY, TAKEN_DOWN)
START_CHARACTERS, END_CHARACTERS = 2000, 500  # characters, at the start and at the end, in which a notice says what it is
# The commonest English words make up two fifths of any English story, and next to nothing of other languages or of noise.
_COMMON = """the and a to of i in was he it you that his her she my for with as on had at but is they me not be him have said from
    we all this your so one were what out no up there by an do if like would just then are when who their or them could been into
    about did down can its us will how now more know has than only time over"""
COMMON = frozenset(_COMMON.split())
# Shares of a text's words: below the first its language is doubtful, below the second it is not English.
FEW_COMMON, NEXT_TO_NONE = 0.18, 0.03
SAMPLE_WORDS = 400


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Normalise both texts; leave out what is no story in English of at least `min_words` words, and empty prompts."""

    min_words: Count

    def __post_init__(self) -> None:
        require_whole("preprocess.clean.min_words", self.min_words, least=1)

    def __call__(self, story: Story) -> Story | str:
        if is_notice(story.response):
            return "a moderators' or bot's notice"
        removals = Removals(listed=False)
        prompt, response = canonical_prompt(story.prompt), clean_story(story.response, removals)
        if not without_tag(prompt):
            return "no prompt"
        words = response.split()
        if len(words) < self.min_words:
            return "no story but a link" if removals.kinds & {"link", "url"} else "too short"
        if not is_english(words):
            return "not in English"
        return replace(story, prompt=prompt, response=response)


class KeepingNotes:
    """Cleans stories, and remembers the texts from which something was cut."""

    def __init__(self, clean: Clean) -> None:
        self._clean, self._uncut = clean, dict[str, str]()

    def __call__(self, story: Story) -> Story | str:
        cleaned = self._clean(story)
        if isinstance(cleaned, Story):
            uncut = plain_text(story.response, Removals(listed=False))
            if len(uncut) > len(cleaned.response):
                self._uncut[story.reply_id] = uncut
        return cleaned

    def uncut(self, story: Story) -> str:
        """A cleaned story's text with its notes."""
        return self._uncut.get(story.reply_id, story.response)


def is_notice(text: str) -> bool:
    """Whether a text comes from a moderator or a bot."""
    beginning = text[:START_CHARACTERS]
    return any(pattern.search(beginning) for pattern in NOTICES) or SIGNATURE.search(text[-END_CHARACTERS:]) is not None


def clean_story(text: str, removals: Removals | None = None) -> str:
    """The story alone, as it would be read aloud; `removals` hears what went."""
    removals = removals or Removals(listed=False)
    return without_notes(plain_text(text, removals), removals)


def is_english(words: list[str]) -> bool:
    bare = [word.strip(".,;:!?\"“”‘’'()[]*—–-…").lower() for word in words[:SAMPLE_WORDS]]
    common = sum(word in COMMON for word in bare) / max(1, len(bare))
    return common >= FEW_COMMON or (common >= NEXT_TO_NONE and _language(words) == "en")


def _language(words: list[str]) -> str:
    """For the one story in a thousand that is written in lists, commands or dialect; the classifier is slow."""
    from py3langid import classify

    return classify(" ".join(words[:SAMPLE_WORDS]))[0]

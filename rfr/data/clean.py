"""Pair -> cleaned pair, or the reason why it is left out. Pure; the caller counts the reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rfr.data.notes import without_notes
from rfr.data.prompts import canonical_prompt, without_tag
from rfr.data.text import Removals, plain_text
from rfr.errors import require_whole
from rfr.records import Pair

SIGNATURE = "I am a bot, and this action"
NOTICE = re.compile(
    rf"{SIGNATURE}|^\W*Off-Topic Discussion\W*:"
    r"|^.{0,200}\b(?:this|your) (?:post|prompt|submission|comment|story) (?:has been|was) removed\b"
    r"|\b(?:message|contact) the mod(?:erator)?s (?:of this|if you|with any)|^\W*Removed\b.{0,40}\bRule \d",
    re.IGNORECASE,
)
# The commonest English words make up two fifths of any English story, and next to nothing of other languages or of noise.
_COMMON = """the and a to of i in was he it you that his her she my for with as on had at but is they me not be him have said from
    we all this your so one were what out no up there by an do if like would just then are when who their or them could been into
    about did down can its us will how now more know has than only time over"""
COMMON = frozenset(_COMMON.split())
FEW_COMMON, NEXT_TO_NONE = 0.18, 0.03  # shares of the words: below the one it is doubtful, below the other it is clear
SAMPLE = 400  # words


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Normalise both texts; leave out what is no story in English of at least `min_words` words, and empty prompts."""

    min_words: int

    def __post_init__(self) -> None:
        require_whole("preprocess.clean.min_words", self.min_words, least=1)

    def __call__(self, pair: Pair) -> Pair | str:
        if NOTICE.search(pair.response[:2000]) or SIGNATURE in pair.response[-500:]:
            return "a moderators' or bot's notice"
        removals = Removals()
        prompt, response = canonical_prompt(pair.prompt), clean_story(pair.response, removals)
        if not without_tag(prompt):
            return "no prompt"
        words = response.split()
        if len(words) < self.min_words:
            return "no story but a link" if any(kind in ("link", "url") for kind, _ in removals.found) else "too short"
        if not is_english(words):
            return "not in English"
        return replace(pair, prompt=prompt, response=response)


def clean_story(text: str, removals: Removals | None = None) -> str:
    """The story alone, as it would be read aloud; `removals` hears what went."""
    removals = removals or Removals()
    return without_notes(plain_text(text, removals), removals)


def is_english(words: list[str]) -> bool:
    bare = [word.strip(".,;:!?\"“”‘’'()[]*—–-…").lower() for word in words[:SAMPLE]]
    common = sum(word in COMMON for word in bare) / max(1, len(bare))
    return common >= FEW_COMMON or (common >= NEXT_TO_NONE and _language(words) == "en")


def _language(words: list[str]) -> str:
    """For the one story in a thousand that is written in lists, commands or dialect; the classifier is slow."""
    from py3langid import classify

    return classify(" ".join(words[:SAMPLE]))[0]

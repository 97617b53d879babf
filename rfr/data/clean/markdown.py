"""Removes markdown, entities and invisible characters, and can list everything that it removed."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from rfr.utils.html_entities import unescape


@dataclass(kw_only=True)
class Removals:
    """The kinds of text that cleaning removed and, where `listed`, every (kind, removed text) in order."""

    listed: bool = True
    kinds: set[str] = field(default_factory=set)
    pieces: list[tuple[str, str]] = field(default_factory=list)

    def sub(self, kind: str, pattern: re.Pattern[str], replacement: str, text: str) -> str:
        """`pattern.sub`, with a note of what went."""
        if not self.listed:  # a shortcut, many times as fast
            text, count = pattern.subn(replacement, text)
            self.kinds |= {kind} if count else set()
            return text

        def replaced(match: re.Match[str]) -> str:
            kept = match.expand(replacement)
            self.note(kind, match[0])
            return kept

        return pattern.sub(replaced, text)

    def note(self, kind: str, text: str) -> None:
        self.kinds.add(kind)
        if self.listed:
            self.pieces.append((kind, text))


SPACES = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")  # control characters that stand between words
JOINERS = "\u200c\u200d"
IDLE_JOINER = re.compile(
    rf"(?<![^\x00-\x7f\s])[{JOINERS}]+|[{JOINERS}]+(?![^\x00-\x7f\s])"
)  # joins no emoji, no letters that need it
INVISIBLE, MARKS = {"Cc", "Cf", "Cs", "Co", "Cn"}, {"Mn", "Me"}  # Unicode categories
ENTITY = re.compile(r"&(?:#[0-9]+|#x[0-9a-fA-F]+|[a-zA-Z]+);")
# No pattern lets the text between two signs hold the opening one, so that matching takes linear time.
SPOILER = re.compile(r"\[[^\[\]\n]*\]\(#s\s+\"([^\"\n]*)\"\)|>!((?:(?!>!)[^\n])+?)!<")
LINK = re.compile(r"\[([^\[\]\n]*)\]\(\s*(?:https?://|/?[ru]/|#)(?:[^()\s]|\([^()\s]*\))*\s*(?:\"[^\"\n]*\")?\)")
URL = re.compile(r"<?(?:https?://|www\.)\S+[^\s.,;:!?)\]*>\"']>?")
RULE = re.compile(r"(?m)^[ \t>]*(?:\\?[-_*=~#+^.·•—–][ \t]*){3,}$")
HEADING = re.compile(r"(?m)^[ \t]{0,3}#{1,6}[ \t]*(?=\S)")
QUOTE = re.compile(r"(?m)^[ \t]*(?:>[ \t]?)+(?=\S)")
EMPHASIS = re.compile(r"(?<![\w*\\])(\*{1,3})(?=[^\s*])([^*\n]*(?:\n(?!\n)[^*\n]*)*?)(?<=[^\s\\])\1(?![\w*])")
UNDERSCORES = re.compile(r"(?<![\w_\\])(_{1,3})(?=[^\s_])([^_\n]*?)(?<=[^\s\\])\1(?![\w_])")
CODE = re.compile(r"(`{1,3})(?=[^`\s])([^`\n]+?)\1(?!`)")
STRIKE = re.compile(r"~~(?=\S)([^~\n]+?)~~")
RAISED_WORDS = re.compile(r"\^\(((?:(?!\^\()[^)\n])*)\)")
SUPERSCRIPT = re.compile(r"(?<=[^\W\d])\^(?=\w)|(?<=\d)\^(?=[^\W\d])")  # 2^10 is a number
ESCAPE = re.compile(r"\\(?=[^\w\s]|_)")
MARKUP = (  # kind, a sign that every match holds, pattern, replacement
    ("spoiler", "](#s", SPOILER, r"\1\2"),
    ("spoiler", ">!", SPOILER, r"\1\2"),
    ("link", "](", LINK, r"\1"),
    ("url", "http", URL, ""),
    ("url", "www.", URL, ""),
    ("rule", "\n", RULE, ""),
    ("heading", "#", HEADING, ""),
    ("quote", ">", QUOTE, ""),
    ("emphasis", "*", EMPHASIS, r"\2"),
    ("emphasis", "_", UNDERSCORES, r"\2"),
    ("code", "`", CODE, r"\2"),
    ("strike", "~~", STRIKE, r"\1"),
    ("superscript", "^(", RAISED_WORDS, r"\1"),
    ("superscript", "^", SUPERSCRIPT, ""),
    ("escape", "\\", ESCAPE, ""),
)


def visible(text: str, removals: Removals) -> str:
    """Entities resolved (twice: Reddit escapes what people have escaped), what can't be seen gone."""
    for _ in range(2):
        if "&" in text:
            text = ENTITY.sub(lambda match: unescape(match[0]), text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    text = SPACES.sub(" ", text)
    if any(joiner in text for joiner in JOINERS):
        text = removals.sub("invisible", IDLE_JOINER, "", text)
    characters = set(text)
    if unseen := _of(INVISIBLE, characters):
        text = removals.sub("invisible", re.compile(f"[{unseen}]+"), "", text)
    if marks := _of(MARKS, characters):  # some languages put one or two on a letter
        text = removals.sub("stacked marks", re.compile(f"[{marks}]{{3,}}"), "", text)
    return text


def _of(categories: set[str], characters: set[str]) -> str:
    """Those of a text's characters that are in these categories, for a pattern: a class of all there are would be slow."""
    return "".join(re.escape(c) for c in characters if unicodedata.category(c) in categories and c not in f"\n\t{JOINERS}")


def without_markup(text: str, removals: Removals) -> str:
    """Markdown's signs out, the words between them kept; URLs out."""
    for kind, sign, pattern, replacement in MARKUP:
        if sign in text:
            text = removals.sub(kind, pattern, replacement, text)
    return text


def spaced(text: str) -> str:
    """Single spaces, no more than one empty line, no ends of white space."""
    lines = [" ".join(line.split()) for line in text.split("\n")]  # twice as fast as patterns
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def plain_text(text: str, removals: Removals | None = None) -> str:
    """A text as it would be read aloud."""
    removals = removals or Removals(listed=False)
    return spaced(without_markup(visible(text, removals), removals))

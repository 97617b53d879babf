"""Markdown, entities and what can't be seen, out of a text. Everything that goes is told, so that people can look at it."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Removals:
    """What cleaning took out of a text, in order: (kind, the characters)."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def sub(self, kind: str, pattern: re.Pattern[str], replacement: str, text: str) -> str:
        """`pattern.sub`, with a note of what went."""

        def replaced(match: re.Match[str]) -> str:
            kept = match.expand(replacement)
            self.found.append((kind, match[0]))
            return kept

        return pattern.sub(replaced, text)

    def note(self, kind: str, text: str) -> None:
        self.found.append((kind, text))


SPACES = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")  # control characters that stand between words
JOINERS = "\u200c\u200d"
IDLE_JOINER = re.compile(
    rf"(?<![^\x00-\x7f\s])[{JOINERS}]+|[{JOINERS}]+(?![^\x00-\x7f\s])"
)  # joins no emoji, no letters that need it
INVISIBLE, MARKS = {"Cc", "Cf", "Cs", "Co", "Cn"}, {"Mn", "Me"}  # Unicode categories
ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|[a-zA-Z]+);")
SPOILER = re.compile(r"\[[^\]\n]*\]\(#s\s+\"([^\"\n]*)\"\)|>!([^\n]+?)!<")
LINK = re.compile(r"\[([^\]\n]*)\]\(\s*(?:https?://|/?[ru]/|#)(?:[^()\s]|\([^()\s]*\))*\s*(?:\"[^\"\n]*\")?\)")
URL = re.compile(r"<?(?:https?://|www\.)\S+[^\s.,;:!?)\]*>\"']>?")
RULE = re.compile(r"(?m)^[ \t>]*(?:\\?[-_*=~#+^.·•—–][ \t]*){3,}$")
HEADING = re.compile(r"(?m)^[ \t]{0,3}#{1,6}[ \t]*(?=\S)")
QUOTE = re.compile(r"(?m)^[ \t]*(?:>[ \t]?)+(?=\S)")
EMPHASIS = re.compile(r"(?<![\w*\\])(\*{1,3})(?=[^\s*])([^*\n]*(?:\n(?!\n)[^*\n]*)*?)(?<=[^\s\\])\1(?![\w*])")
UNDERSCORES = re.compile(r"(?<![\w_\\])(_{1,3})(?=[^\s_])([^_\n]*?)(?<=[^\s\\])\1(?![\w_])")
CODE = re.compile(r"(`{1,3})(?=[^`\s])([^`\n]+?)\1(?!`)")
STRIKE = re.compile(r"~~(?=\S)([^~\n]+?)~~")
SUPERSCRIPT = re.compile(r"\^\(([^)\n]*)\)|(?<=[^\W\d])\^(?=\w)|(?<=\d)\^(?=[^\W\d])")  # 2^10 is a number
ESCAPE = re.compile(r"\\(?=[^\w\s])")
MARKUP = (  # kind, a sign without which there is none, pattern, what stays of it
    ("spoiler", "](#s", SPOILER, r"\1\2"), ("spoiler", ">!", SPOILER, r"\1\2"),
    ("link", "](", LINK, r"\1"), ("url", "http", URL, ""), ("url", "www.", URL, ""), ("rule", "\n", RULE, ""),
    ("heading", "#", HEADING, ""), ("quote", ">", QUOTE, ""), ("emphasis", "*", EMPHASIS, r"\2"),
    ("emphasis", "_", UNDERSCORES, r"\2"), ("code", "`", CODE, r"\2"),
    ("strike", "~~", STRIKE, r"\1"), ("superscript", "^", SUPERSCRIPT, r"\1"),
    ("escape", "\\", ESCAPE, ""),
)  # fmt: skip


def visible(text: str, removals: Removals) -> str:
    """Entities resolved (twice: Reddit escapes what people have escaped), what can't be seen gone."""
    for _ in range(2):
        if "&" in text:
            text = ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    text = SPACES.sub(" ", text)
    if any(joiner in text for joiner in JOINERS):
        text = removals.sub("invisible", IDLE_JOINER, "", text)
    if unseen := _of(INVISIBLE, text):
        text = removals.sub("invisible", re.compile(f"[{unseen}]+"), "", text)
    if marks := _of(MARKS, text):  # one or two on a letter are some languages' own
        text = removals.sub("stacked marks", re.compile(f"[{marks}]{{3,}}"), "", text)
    return text


def _of(categories: set[str], text: str) -> str:
    """The characters of a text in these categories, for a pattern: a class of all there are would be slow."""
    return "".join(re.escape(c) for c in set(text) if unicodedata.category(c) in categories and c not in f"\n\t{JOINERS}")


def without_markup(text: str, removals: Removals) -> str:
    """Markdown's signs out, the words between them kept; URLs out."""
    for kind, sign, pattern, replacement in MARKUP:
        if sign in text:
            text = removals.sub(kind, pattern, replacement, text)
    return text


def spaced(text: str) -> str:
    """Single spaces, no more than one empty line, no ends of white space."""
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def plain_text(text: str, removals: Removals | None = None) -> str:
    """A text as it would be read aloud."""
    removals = removals or Removals()
    return spaced(without_markup(visible(text, removals), removals))

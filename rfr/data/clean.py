"""Pair -> cleaned pair, or the reason why it is left out. Pure; the caller counts the reasons."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass, replace

from rfr.records import Pair

TAG = re.compile(r"^\s*\[?\s*(wp|eu|pi|rf|cw|tt|sp|cc|mp|ip|ot)\s*(?:[\]:]\s*|\s)", re.IGNORECASE)
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Normalise both texts; leave out responses of fewer than `min_words` words and empty prompts."""

    min_words: int

    def __call__(self, pair: Pair) -> Pair | str:
        prompt, response = canonical_prompt(pair.prompt), plain_text(pair.response)
        if not TAG.sub("", prompt):
            return "no prompt"
        if len(response.split()) < self.min_words:
            return "too short"
        return replace(pair, prompt=prompt, response=response)


def plain_text(text: str) -> str:
    """Entities resolved, invisible characters gone, single spaces, paragraphs kept."""
    text = html.unescape(text).replace("\r\n", "\n")
    text = "".join(c for c in text if c == "\n" or unicodedata.category(c) not in INVISIBLE or c == "\t")
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def canonical_prompt(title: str) -> str:
    """The title on one line, its tag in the form `[WP]`; a title without a tag counts as [WP]."""
    title = re.sub(r"\s+", " ", plain_text(title))
    tag = TAG.match(title)
    return f"[{tag[1].upper() if tag else 'WP'}] {TAG.sub('', title)}"

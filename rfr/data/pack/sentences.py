"""Finds where a text may be cut: after sentences that have surely ended."""

from __future__ import annotations

import re

PARAGRAPH = re.compile(r"[^\n]+")
END = re.compile(r"[.!?](?<=[^\W_].)(?=\s+[A-ZÀ-ÖØ-Þ])")
ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|Mrs?|Ms|Mx|Dr|St|Prof|Sgt|Lt|Capt|Col|Gen|Cpl|Maj|Adm|Rev|Sen|Rep|Gov|Hon|Jr|Sr|Fr|Mt|No|vs|etc|approx|[ap]\.m)\.$"
)
OPENERS = "\"“('‘"
OPENING, CLOSING = re.compile(r"(?:^|[\s*_])['‘](?=\w)"), re.compile(r"[^\w\s]['’](?=\s|$)")  # single quotes, not apostrophes


def sentence_ends(text: str) -> list[int]:
    """Positions behind the ends of sentences and paragraphs, without the text's own end; ascending.

    A sentence ends with `.`, `!` or `?` between a word and a capital, but not behind an abbreviation and not inside a quotation
    or brackets. A paragraph ends where its line does.
    """
    ends: list[int] = []
    for paragraph in PARAGRAPH.finditer(text):
        ends += [paragraph.start() + end for end in _inner_ends(paragraph[0])]
        ends.append(paragraph.start() + len(paragraph[0].rstrip()))
    return [end for end in ends if 0 < end < len(text.rstrip())]


def _inner_ends(paragraph: str) -> list[int]:
    ends, opened, seen = [], _Opened(), 0
    opens = None
    for match in END.finditer(paragraph):
        end = match.end()
        if opens is None:
            opens = any(sign in paragraph for sign in OPENERS)
        if opens:
            opened.read(paragraph[seen:end])
            seen = end
        if not opened.any and not ABBREVIATION.search(paragraph, max(0, end - 9), end):
            ends.append(end)
    return ends


class _Opened:
    """Quotations and brackets that were opened and not closed in a paragraph read so far."""

    def __init__(self) -> None:
        self.straight, self.others = 0, {"“”": 0, "()": 0, "''": 0}

    def read(self, text: str) -> None:
        self.straight += text.count('"')
        self.others["“”"] += text.count("“") - text.count("”")
        self.others["()"] += text.count("(") - text.count(")")
        if "'" in text or "‘" in text:
            self.others["''"] += len(OPENING.findall(text)) - len(CLOSING.findall(text))

    @property
    def any(self) -> bool:
        return self.straight % 2 == 1 or max(self.others.values()) > 0

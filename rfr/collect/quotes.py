"""Finds out whether a file quotes one of some texts, by runs of words, however it was shortened or escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rfr.utils.html_entities import unescape

RUN_WORDS = 8  # rare enough to come from the same text, short enough to survive a cut
LEAST_WORDS = 3  # shorter texts are too common to search for
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\[nrt]")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")  # cleaning takes them out of words
# Words are of letters: numbers are too common. In scripts without spaces between words, each character is a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
Run = tuple[str, ...]


class QuoteFinder:
    """All runs of RUN_WORDS words of some texts; of shorter texts all their words, and all but the first, to which a byte of a
    binary file may stick."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._runs: dict[int, set[Run]] = {}
        for text in texts:
            for run in _runs_of(text):
                self._runs.setdefault(len(run), set()).add(run)

    def exclude(self, texts: Iterable[str]) -> None:
        """Do not look for what these texts say too."""
        for text in texts:
            words = _words(text)
            for size, runs in self._runs.items():
                runs.difference_update(_runs(words, size))

    def found_in(self, text: str) -> bool:
        """Whether the text holds one of the runs. JSON's and HTML's escapes are seen through."""
        words = _words(unescape(ESCAPED.sub(lambda escape: chr(int(escape[1], 16)) if escape[1] else " ", text)))
        return any(run in runs for size, runs in self._runs.items() for run in _runs(words, size))


def _runs_of(text: str) -> list[Run]:
    words = _words(text)
    if len(words) >= RUN_WORDS:
        return list(_runs(words, RUN_WORDS))
    return [run for run in (tuple(words), tuple(words[1:])) if len(run) >= LEAST_WORDS]


def _words(text: str) -> list[str]:
    return WORD.findall(INVISIBLE.sub("", unescape(text).casefold()))


def _runs(words: list[str], size: int) -> Iterable[Run]:
    return (tuple(words[start : start + size]) for start in range(len(words) - size + 1))

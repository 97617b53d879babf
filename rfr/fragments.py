"""Whether a file quotes one of some texts: found by runs of words, however it was shortened, escaped or cleaned."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

RUN = 8  # words: rare enough to come from the same text, short enough to survive a cut
LEAST = 3  # words of a text that is searched for; fewer are everybody's
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\[nrt]")


class Fragments:
    """All runs of RUN words of some texts; of shorter texts all their words."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._runs: dict[int, set[tuple[str, ...]]] = {}
        for text in texts:
            words = _words(text)
            size = min(RUN, len(words))
            if size >= LEAST:
                self._runs.setdefault(size, set()).update(_runs(words, size))

    def within(self, text: str) -> bool:
        """Whether the text holds one of the runs. JSON's and HTML's escapes are seen through."""
        words = _words(html.unescape(ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else " ", text)))
        return any(run in runs for size, runs in self._runs.items() for run in _runs(words, size))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", html.unescape(text).casefold())


def _runs(words: list[str], size: int) -> Iterable[tuple[str, ...]]:
    return (tuple(words[start : start + size]) for start in range(len(words) - size + 1))

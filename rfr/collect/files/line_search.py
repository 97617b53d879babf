"""Finds the lines of a byte stream that contain a name, without parsing the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

NEWLINE = ord("\n")
LONGEST_LINE_BYTES = 16 << 20  # Reddit's own limit for a text is 40,000 characters
SHOWN_BYTES = 1000  # of a line that is too long, in its reject


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some whole lines of the stream.

    `end` is the offset behind the lines, `lines` their number; `hits` are (offset, line) of the lines that hold the needle,
    `too_long` those of the lines above LONGEST_LINE_BYTES, cut to their beginning.
    """

    end: int
    lines: int
    hits: list[tuple[int, bytes]]
    too_long: list[tuple[int, bytes]]


def blocks_with(needle: bytes, chunks: Iterable[bytes], skip: int = 0) -> Iterator[Block]:
    """Search the stream from offset `skip`, which must be the start of a line. Memory: one chunk and one line."""
    tail = _Tail(needle)
    position = 0
    for chunk in chunks:
        if position + len(chunk) <= skip:
            position += len(chunk)
            continue
        chunk = chunk[max(0, skip - position) :]
        position = max(position, skip)
        # numpy lets go of the GIL: this first look at a chunk waits for memory, and the decoder must not.
        lines = int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == NEWLINE))
        last = chunk.rfind(b"\n")
        if last < 0:
            tail.extend(position, chunk)
        else:
            first = chunk.find(b"\n") + 1
            tail.extend(position, chunk[:first])
            hits, too_long = tail.take()
            for offset, line in _hits(needle, memoryview(chunk), chunk, first, last + 1, position):
                if len(line) > LONGEST_LINE_BYTES:
                    too_long.append((offset, line[:SHOWN_BYTES]))
                else:
                    hits.append((offset, line))
            yield Block(end=position + last + 1, lines=lines, hits=hits, too_long=too_long)
            tail.extend(position + last + 1, chunk[last + 1 :])
        position += len(chunk)
    if tail.length:  # no newline at the end of the file
        hits, too_long = tail.take()
        yield Block(end=position, lines=1, hits=hits, too_long=too_long)


def _hits(needle: bytes, view: memoryview, chunk: bytes, start: int, end: int, position: int) -> list[tuple[int, bytes]]:
    hits = []
    while (hit := chunk.find(needle, start, end)) >= 0:
        begin = max(start, chunk.rfind(b"\n", start, hit) + 1)
        start = chunk.find(b"\n", hit) + 1
        hits.append((position + begin, bytes(view[begin : start - 1])))
    return hits


class _Tail:
    """The line that crosses chunks; beyond LONGEST_LINE_BYTES only its beginning is kept."""

    def __init__(self, needle: bytes) -> None:
        self._needle = needle
        self._reset()

    def _reset(self) -> None:
        self._pieces: list[bytes] = []
        self._start, self.length, self._content, self._seen = 0, 0, 0, False

    def extend(self, offset: int, piece: bytes) -> None:
        if not piece:
            return
        if not self.length:
            self._start = offset
        self.length += len(piece)
        self._content = self.length - piece.endswith(b"\n")
        self._pieces.append(piece)
        if self.length > LONGEST_LINE_BYTES:
            whole = b"".join(self._pieces)
            self._seen = self._seen or self._needle in whole
            # The end is kept: it may hold the needle's first half.
            self._pieces = [whole[:SHOWN_BYTES], whole[SHOWN_BYTES:][-len(self._needle) :]]

    def take(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        """(hits, too_long) of the finished line."""
        line, start, long = b"".join(self._pieces).removesuffix(b"\n"), self._start, self._content > LONGEST_LINE_BYTES
        seen = self._seen or self._needle in line
        self._reset()
        lines = [(start, line[:SHOWN_BYTES] if long else line)] if seen else []
        return ([], lines) if long else (lines, [])

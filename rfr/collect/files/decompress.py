"""Reads a file's bytes, whatever it was compressed with, and tells a damaged file from its end."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from rfr.errors import UserError

WINDOW = 2**31  # Reddit dumps are compressed with zstd --long=31: decoding needs that much memory
READ_BYTES = 1 << 16  # they become about 1 MiB, which is searched while it is in the processor's cache
PIECE_BYTES = 1 << 21  # the most decompressed bytes of a piece; where a read gives more, the next read is smaller in proportion
WRITE_BYTES = 1 << 22  # room for what 64 KiB decompress to, so that no pieces need joining
AHEAD_BYTES = 1 << 23  # decompressed while a piece is searched or stored
BOM = b"\xef\xbb\xbf"  # UTF-8's byte order mark, with which some programs begin a text
SNIFFED_BYTES = 512  # enough to tell a file's compression
SWITCH_S = 0.0002  # the decoder needs the GIL between two chunks; at Python's interval it waits longer than a chunk takes


class Damaged(UserError):
    """The file ends in the middle, or its bytes make no sense from some point on."""


def chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a dump in pieces, decoded in a thread of their own.

    Raises:
        UserError: no such file, neither compressed in a known way nor JSON lines, or too little memory to decode it.
        Damaged: after the last good piece of a broken file.
    """
    if not path.is_file():
        raise UserError(f"no dump at {path}")
    pieces = in_a_thread(decompressed(path), path)
    first = next(pieces, b"")
    if first.removeprefix(BOM).lstrip()[:1] != b"{":
        raise UserError(f"{path} is no dump: it is neither zst, xz, bz2, gz nor JSON lines")
    yield from chain([first], pieces)


def decompressed(path: Path) -> Iterator[bytes]:
    """The bytes in pieces, decompressed as the first of them say, whatever the name says.

    Raises:
        UserError: an archive of files, or UTF-16.
    """
    with path.open("rb") as file:
        decode = _decoder(file.read(6))
        file.seek(0)
        pieces = decode(file)
        first = next(pieces, b"")
        refuse_archives(first[:SNIFFED_BYTES], path)
        if first:
            yield first
        yield from pieces


def refuse_archives(beginning: bytes, path: Path) -> None:
    """Some kinds of files hold no lines, and are told by how they begin, whatever wraps them.

    Raises:
        UserError: an archive of files, or a text in UTF-16.
    """
    if beginning[:4] in (b"PK\x03\x04", b"PK\x05\x06") or beginning[257:262] == b"ustar":
        kind, tool = ("zip", "unzip") if beginning[:2] == b"PK" else ("tar", "tar -xf")
        raise UserError(f"{path} is a {kind} archive of files: unpack it ({tool}), and give a file from it")
    if beginning[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path} is UTF-16, and rfr reads UTF-8: iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}")


def _decoder(magic: bytes) -> Callable[[BinaryIO], Iterator[bytes]]:
    if magic[:4] == b"\x28\xb5\x2f\xfd" or (magic[1:4] == b"\x2a\x4d\x18" and 0x50 <= magic[0] <= 0x5F):
        return _zstd
    if magic == b"\xfd7zXZ\x00":
        return lambda file: _read(lzma.open(file))
    if magic[:3] == b"BZh":
        return lambda file: _read(bz2.open(file))
    if magic[:2] == b"\x1f\x8b":
        return lambda file: _read(gzip.open(file))
    return _read


def _read(file: BinaryIO | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile) -> Iterator[bytes]:
    while piece := file.read(4 * READ_BYTES):
        yield piece


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    """Frame after frame. Not `stream_reader`: that takes a frame that is cut off for its end."""
    import zstandard

    decompressor, frame, size = zstandard.ZstdDecompressor(max_window_size=WINDOW), None, READ_BYTES
    while data := file.read(size):
        while data:
            frame = frame or decompressor.decompressobj(write_size=WRITE_BYTES)
            try:
                piece = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise (MemoryError if "memory" in str(error) else OSError)(str(error)) from None
            if piece:
                yield piece
            size = max(1 << 10, min(READ_BYTES, len(data) * PIECE_BYTES // max(1, len(piece))))
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the last frame is not whole")


class _Bounded:
    """A queue of pieces between two threads that holds no more than so many bytes, or one piece."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes, self._stopped = most, 0, False
        self._items: deque[bytes | BaseException | None] = deque()
        self._changed = threading.Condition()

    def put(self, item: bytes | BaseException | None) -> bool:
        """Waits for room; False: nobody reads any more."""
        size = len(item) if isinstance(item, bytes) else 0
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._bytes or self._bytes + size <= self._most)
            self._items.append(item)
            self._bytes += size
            self._changed.notify()
            return not self._stopped

    def get(self) -> bytes | BaseException | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items)
            item = self._items.popleft()
            self._bytes -= len(item) if isinstance(item, bytes) else 0
            self._changed.notify()
            return item

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()


def in_a_thread(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """Decoding releases the GIL, so it runs beside the search.

    Raises:
        UserError: too little memory to decode the file.
        Damaged: after the last good piece of a broken file.
    """
    ready = _Bounded(AHEAD_BYTES)

    def decode() -> None:
        try:
            for piece in pieces:
                if not ready.put(piece):
                    return
            ready.put(None)
        except BaseException as error:  # passed on to the reader: a thread's exception would be lost
            ready.put(error)

    thread, interval = threading.Thread(target=decode, daemon=True), sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise told_of(item, path) from None
            yield item
    finally:
        ready.stop()
        thread.join()
        sys.setswitchinterval(interval)


def told_of(error: BaseException, path: Path) -> BaseException:
    """Turn an error of a decoder into the error that the user gets."""
    if isinstance(error, EOFError | OSError | zlib.error | lzma.LZMAError):
        return Damaged(f"{path} is cut off or damaged ({error}): fetch it again; what was committed before is kept")
    if isinstance(error, MemoryError):
        return UserError(f"{path} can't be decompressed ({error}): a zst dump needs 2 GiB of memory")
    return error

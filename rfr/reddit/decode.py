"""Bytes of a dump file, whatever it was compressed with; a file that is cut off or damaged is told apart from its end."""

from __future__ import annotations

import bz2
import gzip
import lzma
import queue
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from rfr.errors import UserError

WINDOW = 2**31  # Reddit dumps are compressed with zstd --long=31: decoding needs that much memory
READ_SIZE = 1 << 16  # of compressed bytes: what comes out, about 1 MiB, is searched while it is in the cache
WRITE_SIZE = 1 << 22  # room for what 64 KiB become, so that nothing is joined
AHEAD = 4  # chunks decoded while one is being searched or stored
SWITCH_S = 0.0002  # the decoder needs the GIL between two chunks, and would wait for it longer than a chunk takes


class Damaged(UserError):
    """The file ends in the middle, or its bytes make no sense from some point on."""


def chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes in pieces, decoded in a thread of their own. Told by the first bytes, not by the name.

    Raises:
        UserError: no such file, neither compressed in a known way nor JSON lines, or too little memory to decode it.
        Damaged: after the last good piece of a broken file.
    """
    if not path.is_file():
        raise UserError(f"no dump at {path}")
    with path.open("rb") as file:
        decode = _decoder(file.read(6), path)
        file.seek(0)
        yield from _in_a_thread(decode(file), path)


def _decoder(magic: bytes, path: Path) -> Callable[[BinaryIO], Iterator[bytes]]:
    if magic[:4] == b"\x28\xb5\x2f\xfd" or (magic[1:4] == b"\x2a\x4d\x18" and 0x50 <= magic[0] <= 0x5F):
        return _zstd
    if magic == b"\xfd7zXZ\x00":
        return lambda file: _read(lzma.open(file))
    if magic[:3] == b"BZh":
        return lambda file: _read(bz2.open(file))
    if magic[:2] == b"\x1f\x8b":
        return lambda file: _read(gzip.open(file))
    if magic.lstrip()[:1] == b"{":
        return _read
    raise UserError(f"{path} is no dump: neither zst, xz, bz2, gz nor JSON lines")


def _read(file: BinaryIO | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile) -> Iterator[bytes]:
    while piece := file.read(4 * READ_SIZE):
        yield piece


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    """Frame after frame. Not `stream_reader`: that takes a frame that is cut off for its end."""
    import zstandard

    decompressor, frame = zstandard.ZstdDecompressor(max_window_size=WINDOW), None
    while data := file.read(READ_SIZE):
        while data:
            frame = frame or decompressor.decompressobj(write_size=WRITE_SIZE)
            try:
                piece = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise (MemoryError if "memory" in str(error) else OSError)(str(error)) from None
            if piece:
                yield piece
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the last frame is not whole")


def _in_a_thread(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """Decoding releases the GIL, so it runs beside the search."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=AHEAD)
    stop = threading.Event()

    def put(item: bytes | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def decode() -> None:
        try:
            for piece in pieces:
                put(piece)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # handed over: a thread's exception would be lost
            put(error)

    thread, interval = threading.Thread(target=decode, daemon=True), sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, EOFError | OSError | zlib.error | lzma.LZMAError):
                raise Damaged(
                    f"{path} is cut off or damaged ({item}): fetch it again; what was committed before is kept"
                ) from None
            if isinstance(item, MemoryError):
                raise UserError(f"{path} can't be decoded in the memory there is ({item}): a zst dump needs 2 GiB")
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)

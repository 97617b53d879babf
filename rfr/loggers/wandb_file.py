"""Reads W&B's offline files: a LevelDB log of protocol buffers (github.com/google/leveldb, doc/log_format.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

HEADER, BLOCK, CHUNK = 7, 32_768, struct.Struct("<IHB")  # checksum, length, kind
FULL, LAST = 1, 4


def records(file: Path) -> Iterator[Record]:
    content, position, parts = file.read_bytes(), HEADER, b""
    if len(content) < HEADER:  # its writer was killed before it wrote anything
        return
    assert content[:4] == b":W&B"
    while position + CHUNK.size <= len(content):
        if BLOCK - position % BLOCK < CHUNK.size:  # no room for a chunk's head: zeros to the end of the block
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = CHUNK.unpack_from(content, position)
        if position + CHUNK.size + length > len(content):  # its writer was killed
            return
        parts += content[position + CHUNK.size : position + CHUNK.size + length]
        position += CHUNK.size + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def history(file: Path) -> list[dict[str, str]]:
    """Each logged row: JSON by key. Whole rows only: one that was still growing when its writer was killed was never written."""
    logged = (record.history for record in records(file) if record.HasField("history"))
    return [{item.key or "/".join(item.nested_key): item.value_json for item in row.item} for row in logged]

"""Looks for texts in files, in whatever form they may have been written."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
import zstandard


def traces(folder: Path, needles: Iterable[str]) -> list[str]:
    """Names of the files below the folder in which one of the needles can be read.

    Plain, as JSON writes it, URL-encoded, or in base64 at any offset; Parquet, gzip and zstd unpacked.
    """
    forms = [form for needle in needles for form in _forms(needle)]
    assert forms
    return [
        path.name
        for path in sorted(path for path in folder.rglob("*") if path.is_file())
        if any(form in content for content in _contents(path) for form in forms)
    ]


def _forms(needle: str) -> set[bytes]:
    texts = {needle, json.dumps(needle)[1:-1], quote(needle, safe=""), quote_plus(needle)}
    # The first and last characters depend on what stands beside the needle.
    coded = {base64.b64encode(b" " * pad + needle.encode())[4:-4] for pad in range(3)}
    return {text.encode() for text in texts} | coded


def _contents(path: Path) -> list[bytes]:
    content = path.read_bytes()
    if path.suffix == ".parquet":
        return [content, json.dumps(pq.read_table(path).to_pylist()).encode()]
    if content[:2] == b"\x1f\x8b":
        return [content, gzip.decompress(content)]
    if content[:4] == b"\x28\xb5\x2f\xfd":
        return [content, zstandard.ZstdDecompressor().decompressobj().decompress(content)]
    return [content]

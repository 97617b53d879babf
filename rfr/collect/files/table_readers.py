"""Reads rows from Parquet, JSON lines, CSV and pairs of line-aligned text files."""

from __future__ import annotations

import csv
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rfr.collect.files.decompress import BOM, decompressed
from rfr.collect.files.table_paths import PAIRED, kind_of, twins_of
from rfr.errors import UserError

BATCH_ROWS = 1000  # Parquet rows held in memory
NEWLINE = "<newline>"  # how Fan et al. (2018) write a line break: in their files a line is a story
UNREADABLE = (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError, csv.Error)
ANY_NEWLINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: `number` is the line in a text file or the row in a Parquet file, from 1."""

    number: int
    cells: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that is no row, and why."""

    number: int
    reason: str
    line: bytes


def columns_at(path: Path) -> list[str] | None:
    """The columns of a file that names them before its rows; None where every row names its own (JSON lines).

    Raises:
        UserError: an unknown ending, or a damaged file.
    """
    with _reading(path) as kind:
        if kind == "parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(path).names)
        if kind == "csv":
            return _header(_csv_rows(path), path)
    return ["source", "target", "score"] if kind == PAIRED else None


def rows_of(path: Path, columns: Iterable[str]) -> Iterator[Row | BadLine]:
    """The rows of a file; of a Parquet file only these columns are read.

    Raises:
        UserError: an unknown ending, a damaged file, another encoding than UTF-8, texts that do not belong together.
    """
    with _reading(path) as kind:
        if kind == "parquet":
            yield from _parquet(path, set(columns))
        elif kind == PAIRED:
            yield from _aligned(path)
        elif kind == "csv":
            yield from _csv(path)
        else:
            yield from _json_lines(path)


@contextmanager
def _reading(path: Path) -> Iterator[str]:
    """The kind of the file; errors in reading it become one line.

    Raises:
        UserError: an unknown ending, or a damaged file.
    """
    kind = kind_of(path)
    if kind is None:
        raise UserError(f"{path} is neither .parquet, .jsonl, .csv (.gz or not) nor .wp_source")
    try:
        yield kind
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{path} is damaged or not {kind}: {error}") from error


def _byte_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, decompressed; `\\n` alone ends one, and the byte-order mark is none of the first."""
    pieces: list[bytes] = []
    mark = BOM
    for piece in decompressed(path):
        first, *others = piece.split(b"\n")
        pieces.append(first)
        if others:
            yield b"".join(pieces).removeprefix(mark)
            mark, pieces = b"", [others.pop()]
            yield from others
    if last := b"".join(pieces).removeprefix(mark):
        yield last


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text, numbered from 1.

    Raises:
        UserError: a line is not UTF-8.
    """
    for number, line in enumerate(_byte_lines(path), start=1):
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is not UTF-8: line {number} holds the byte {line[error.start]:#04x}. Save it as UTF-8, "
                f"for instance with: iconv -f CP1252 -t UTF-8 {path.name} > utf8-{path.name}"
            ) from None


def _json_lines(path: Path) -> Iterator[Row | BadLine]:
    for number, line in _text_lines(path):
        if line.strip():
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield BadLine(number=number, reason=f"no JSON: {error}", line=line.encode())
                continue
            if isinstance(cells, dict):
                yield Row(number=number, cells=cells)
            else:
                yield BadLine(number=number, reason="no JSON object", line=line.encode())


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, and the line that it begins in."""
    csv.field_size_limit(1 << 30)  # its own limit, 128 KiB, is shorter than some stories
    # Old spreadsheets end rows with a carriage return.
    lines = (part for _, line in _text_lines(path) for part in ANY_NEWLINE.findall(f"{line}\n"))
    rows, begins = csv.reader(lines, strict=True), 1  # strict: a quote that is never closed would swallow the rest
    for cells in rows:
        if cells:
            yield begins, cells
        begins = rows.line_num + 1


def _header(rows: Iterator[tuple[int, list[str]]], path: Path) -> list[str]:
    names = next(rows, (0, []))[1]
    if twice := [name for name in names if names.count(name) > 1 and name]:
        raise UserError(f"{path.name} has two columns called {twice[0]}")
    return names


def _csv(path: Path) -> Iterator[Row | BadLine]:
    rows = _csv_rows(path)
    names = _header(rows, path)
    for number, cells in rows:
        if len(cells) == len(names):
            yield Row(number=number, cells=dict(zip(names, cells, strict=True)))
        else:
            reason = f"the row has not as many cells as the header: {len(cells)} and {len(names)}"
            yield BadLine(number=number, reason=reason, line=json.dumps(cells).encode())


def _parquet(path: Path, wanted: set[str]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    schema = pa.schema([field.with_type(_in_microseconds(field.type)) for field in file.schema_arrow if field.name in wanted])
    number = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=schema.names):
        for cells in pa.Table.from_batches([batch]).cast(schema, safe=False).to_pylist():
            number += 1
            yield Row(number=number, cells=cells)


def _in_microseconds(kind: Any) -> Any:
    """The type with microseconds for nanoseconds, which Python's times do not have."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_in_microseconds(kind.value_type))
    return kind


def _aligned(path: Path) -> Iterator[Row]:
    """Prompts in one file, stories in its twin, line by line, as Fan et al. (2018) published them. There is no karma."""
    twin = next((twin for twin in twins_of(path) if twin.is_file()), None)
    if twin is None:
        raise UserError(f"{path.name} has no {twins_of(path)[0].name} beside it")
    lines, of_twin = (sum(1 for _ in _text_lines(file)) for file in (path, twin))
    if lines != of_twin:  # checked before a story is stored: behind the difference every story would get another prompt
        raise UserError(f"{path.name} and {twin.name} have different numbers of lines, {lines:,} and {of_twin:,}")
    for (number, prompt), (_, story) in zip_longest(_text_lines(path), _text_lines(twin)):
        cells = {"source": prompt.strip(), "target": story.strip().replace(NEWLINE, "\n"), "score": None}
        yield Row(number=number, cells=cells)

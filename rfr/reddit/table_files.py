"""Rows of the files that tables come in: Parquet, JSON lines, CSV, and pairs of line-aligned text files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rfr.errors import UserError

Rows = Iterator[dict[str, Any]]
BATCH = 1000  # Parquet rows in memory at once
NEWLINE = "<newline>"  # how Fan et al. (2018) write one, since a line is a story


def rows_of(path: Path, columns: Mapping[str, str]) -> Rows:
    """The rows of a file, by its name's ending; `columns` says which ones a Parquet file is read for.

    Raises:
        UserError: no such file, an unknown ending, or a damaged file.
    """
    if not path.is_file():
        raise UserError(
            f"no table at {path}: set source.path to a .parquet, .jsonl or .csv file, or to a .wp_source beside its target"
        )
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    try:
        if kind == "parquet":
            yield from _parquet(path, columns)
        elif kind.endswith("source"):
            yield from _aligned(path)
        elif kind in ("jsonl", "ndjson", "csv"):
            yield from _text(path, kind)
        else:
            raise UserError(f"{path} is neither .parquet, .jsonl, .csv (.gz or not) nor .wp_source")
    except UserError:
        raise
    except (ValueError, EOFError, OSError, zlib.error, csv.Error, RecursionError) as error:
        raise UserError(f"{path} is damaged or not {kind}: {error}") from error


def _text(path: Path, kind: str) -> Rows:
    raw = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    # utf-8-sig: Excel begins its files with a byte order mark
    with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="" if kind == "csv" else "\n") as lines:
        yield from _csv(lines, path) if kind == "csv" else (json.loads(line) for line in lines if line.strip())


def _csv(lines: Iterable[str], path: Path) -> Rows:
    csv.field_size_limit(1 << 30)  # its own limit, 128 KiB, is shorter than some stories
    rows = csv.DictReader(lines, strict=True)  # strict: a quote that is never closed would swallow the rest
    names = rows.fieldnames or []
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path.name} has two columns called {twice[0]}")
    for row in rows:
        if None in row or None in row.values():
            raise UserError(f"{path.name}, line {rows.line_num}: the row has not as many cells as the header")
        yield row


def _parquet(path: Path, columns: Mapping[str, str]) -> Rows:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    wanted = set(columns.values())
    found = [name for name in file.schema_arrow.names if name in wanted]
    for batch in file.iter_batches(batch_size=BATCH, columns=found if len(found) == len(wanted) else None):
        yield from batch.to_pylist()


def _aligned(path: Path) -> Rows:
    """Prompts in one file, stories in its twin, line by line, as Fan et al. (2018) published them. There is no karma."""
    twin = path.with_name(path.name.replace("source", "target"))
    if not twin.is_file():
        raise UserError(f"{path.name} has no {twin.name} beside it")
    with path.open(encoding="utf-8") as prompts, twin.open(encoding="utf-8") as stories:
        try:
            for prompt, story in zip(prompts, stories, strict=True):
                yield {"source": prompt.strip(), "target": story.strip().replace(NEWLINE, "\n"), "score": None}
        except ValueError:
            raise UserError(f"{path.name} and {twin.name} have different numbers of lines") from None

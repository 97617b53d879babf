"""Tables people already have (JSON lines, CSV; gzipped or not), by a mapping from our field names to their columns."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from rfr.errors import UserError
from rfr.records import Observation, Post, Reply
from rfr.store import Store

CHUNK = 2000  # rows per transaction
REQUIRED = ("title", "body", "score")


def import_table(
    store: Store,
    path: str | Path,
    columns: Mapping[str, str],
    *,
    subreddit: str,
    seen_at: float | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Read every row into the store; returns how many. A row is one reply with its post.

    Args:
        columns: from title, body, score and, where known, post_id, reply_id, post_score, post_created_utc,
            created_utc, author to the table's column names. Missing ids become hashes of the text.
        seen_at: Unix seconds at which the scores were read, None if unknown.

    Raises:
        UserError: no such file, an unknown format, a mapping to a column that is not there, a score that is no number.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no table at {path}: set source.path to a .jsonl or .csv file (.gz or not)")
    columns = {field: column for field, column in columns.items() if column}
    rows, total = enumerate(_rows(path), start=1), 0
    while chunk := list(islice(rows, CHUNK)):
        _check_columns(columns, chunk[0][1], path)
        with store.transaction():
            for number, row in chunk:
                store.add(_records(row, columns, subreddit, seen_at, f"{path.name}, row {number}"))
        total += len(chunk)
        progress(total)
    if total == 0:
        raise UserError(f"{path} has no rows")
    return total


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind not in ("jsonl", "ndjson", "csv"):
        raise UserError(f"{path} is neither .jsonl nor .csv (.gz or not)")
    raw = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with io.TextIOWrapper(raw, encoding="utf-8", newline="" if kind == "csv" else None) as lines:
        try:
            yield from csv.DictReader(lines) if kind == "csv" else map(json.loads, lines)
        except (ValueError, EOFError, OSError) as error:
            raise UserError(f"{path} is damaged or not {kind}: {error}") from error


def _check_columns(columns: Mapping[str, str], row: Mapping[str, Any], path: Path) -> None:
    missing = [field for field in REQUIRED if field not in columns]
    if missing:
        raise UserError(f"source.columns must map {', '.join(missing)} to columns of {path.name}")
    absent = [f"{field}: {column}" for field, column in columns.items() if column not in row]
    if absent:
        raise UserError(f"{path.name} has no column for {', '.join(absent)}; it has {', '.join(row)}")


def _records(
    row: Mapping[str, Any], columns: Mapping[str, str], subreddit: str, seen_at: float | None, where: str
) -> list[Post | Reply | Observation]:
    def value(field: str) -> Any:
        found = row.get(columns.get(field, ""))
        return None if found == "" else found

    title, body = value("title") or "", value("body") or ""
    post_id = str(value("post_id") or _hash(title))
    reply_id = str(value("reply_id") or _hash(title, body))
    post = Post(
        id=post_id, subreddit=subreddit, title=title, created_utc=_number(value("post_created_utc"), where), seen_at=seen_at
    )
    reply = Reply(
        id=reply_id,
        post_id=post_id,
        body=body,
        author=value("author"),
        created_utc=_number(value("created_utc"), where),
        seen_at=seen_at,
    )
    readings = [
        Observation(item_id=item, seen_at=seen_at, source="table", score=int(score))
        for item, score in ((post_id, _number(value("post_score"), where)), (reply_id, _number(value("score"), where)))
        if score is not None
    ]
    return [post, reply, *readings]


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {value!r} is no number") from None


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

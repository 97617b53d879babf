"""Tables people already have, by a mapping from our field names to their columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from more_itertools import chunked

from rfr.errors import UserError
from rfr.records import Observation, Post, Reply
from rfr.reddit.table_files import rows_of
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
    """Read every row into the store; returns how many stories. A row is one reply with its post, or a post with lists.

    Args:
        columns: from title, body, score and, where known, post_id, reply_id, post_body, post_score, post_created_utc,
            created_utc, author to the table's column names. Missing ids become hashes of the text.
        seen_at: Unix seconds at which the scores were read, None if unknown.

    Raises:
        UserError: no such file, an unknown format, a mapping to a column that is not there, a score that is no number.
    """
    path = Path(path)
    columns = {field: column for field, column in columns.items() if column}
    total = 0
    for chunk in chunked(enumerate(_stories(path, columns), start=1), CHUNK):
        with store.transaction():
            for number, row in chunk:
                store.add(_records(row, columns, subreddit, seen_at, f"{path.name}, story {number}"))
        total += len(chunk)
        progress(total)
    if total == 0:
        raise UserError(f"{path} has no rows")
    return total


def _stories(path: Path, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One row per story: a row whose columns hold lists (a thread with all its replies) is unrolled."""
    for number, row in enumerate(rows_of(path, columns), start=1):
        if not isinstance(row, dict):
            raise UserError(f"{path.name}, row {number} is no object")
        if number == 1:
            _check_columns(columns, row, path)
        lists = {column: value for column, value in row.items() if column in columns.values() and isinstance(value, list)}
        if len({len(values) for values in lists.values()}) > 1:
            told = ", ".join(f"{column}: {len(values)}" for column, values in lists.items())
            raise UserError(f"{path.name}, row {number}: lists of different lengths ({told})")
        for values in zip(*lists.values(), strict=True) if lists else [()]:
            yield {**row, **dict(zip(lists, values, strict=True))}


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
        id=post_id, subreddit=subreddit, title=title, body=value("post_body") or "", seen_at=seen_at,
        created_utc=_time(value("post_created_utc"), where),
    )  # fmt: skip
    reply = Reply(
        id=reply_id,
        post_id=post_id,
        body=body,
        author=value("author"),
        created_utc=_time(value("created_utc"), where),
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


def _time(value: Any, where: str) -> float | None:
    """Unix seconds, as a number or an ISO date; a date without a zone is taken as UTC."""
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise UserError(f"{where}: {value!r} is no time") from None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return _number(value, where)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

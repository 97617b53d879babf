"""Tables people already have, by a mapping from our field names to their columns."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from more_itertools import chunked

from rfr.errors import UserError
from rfr.records import MADE_UP, Observation, Post, Reply
from rfr.reddit.table_files import rows_of
from rfr.reddit.things import seconds, whole_number
from rfr.store import Store

CHUNK = 2000  # rows per transaction
REQUIRED = ("title", "body", "score")
SOURCE = "table"


def import_table(
    store: Store,
    path: str | Path,
    columns: Mapping[str, str],
    *,
    subreddit: str,
    seen_at: float | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, int]:
    """Read every row into the store; returns how many stories were read, kept and rejected.

    A row is one reply with its post, or a post with lists of replies. A story with a cell that makes no sense becomes a reject,
    under the table's name and the story's number.

    Args:
        columns: from title, body, score and, where known, post_id, reply_id, post_body, post_score, post_created_utc,
            created_utc, author to the table's column names. Missing ids are made up from the text.
        seen_at: Unix seconds at which the scores were read, None if unknown.

    Raises:
        UserError: no such file, an unknown format, a mapping to a column that is not there, no usable row.
    """
    path = Path(path)
    columns = {field: column for field, column in columns.items() if column}
    read, rejected, first = 0, 0, ""
    for chunk in chunked(enumerate(_stories(path, columns), start=1), CHUNK):
        with store.transaction():
            for number, row in chunk:
                try:
                    store.add(_records(row, columns, subreddit, seen_at))
                except ValueError as error:
                    store.reject(path.name, number, str(error), json.dumps(row, default=str).encode())
                    rejected, first = rejected + 1, first or f"{path.name}, story {number}: {error}"
        read += len(chunk)
        progress(read)
    if rejected == read:
        raise UserError(f"none of the {read} stories can be used; {first}" if read else f"{path} has no rows")
    return {"read": read, "kept": read - rejected, "rejected": rejected}


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
    row: Mapping[str, Any], columns: Mapping[str, str], subreddit: str, seen_at: float | None
) -> list[Post | Reply | Observation]:
    """
    Raises:
        ValueError: a cell makes no sense; the message names its column.
    """

    def value(field: str) -> Any:
        found = row.get(columns.get(field, ""))
        return None if found == "" or (isinstance(found, float) and math.isnan(found)) else found

    def text(field: str) -> str | None:
        found = value(field)
        if found is not None and not isinstance(found, str):
            raise ValueError(f"{columns[field]} is no text: {found!r:.60}")
        return found and _storable(found)

    def number(field: str) -> int | None:
        return whole_number(value(field), columns.get(field, field))

    def time(field: str) -> float | None:
        return time_of(value(field), columns.get(field, field))

    title, body = text("title"), text("body") or ""
    if not title:
        raise ValueError(f"no {columns['title']}")
    post_id = _id(value("post_id")) or _made_up(title)
    reply_id = _id(value("reply_id")) or _made_up(title, body)
    post = Post(
        id=post_id, subreddit=subreddit, title=title, body=text("post_body") or "", seen_at=seen_at,
        created_utc=time("post_created_utc"),
    )  # fmt: skip
    reply = Reply(
        id=reply_id, post_id=post_id, body=body, author=text("author"), created_utc=time("created_utc"), seen_at=seen_at
    )
    readings = [
        Observation(item_id=item, seen_at=seen_at, source=SOURCE, score=score)
        for item, score in ((post_id, number("post_score")), (reply_id, number("score")))
        if score is not None
    ]
    return [post, reply, *readings]


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a character (a lone surrogate) in a text") from None
    return text


def time_of(value: Any, name: str) -> float | None:
    """Unix seconds of a number, a date or an ISO date; a date without a zone is taken as UTC.

    Raises:
        ValueError: it is none of these; the message has `name`.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)  # 20240131 too
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return seconds(value, name)


def _id(value: Any) -> str:
    """An id as text; pandas makes whole numbers with gaps into floats."""
    if value is None:
        return ""
    return _storable(str(int(value)) if isinstance(value, float) and value.is_integer() else str(value))


def _made_up(*parts: str) -> str:
    return MADE_UP + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

"""Imports a table into a store: all of it, or nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rfr.collect.files.table_paths import files_at
from rfr.collect.files.table_readers import BadLine, Row, columns_at, rows_of
from rfr.collect.files.table_records import SOURCE, Ids, Story, TableRecords
from rfr.errors import UserError
from rfr.records import Observation, Post, Reply
from rfr.store.store import Origin, Store

CHUNK_STORIES = 2000  # between two reports of progress
REQUIRED = ("title", "body", "score")
SHOWN_COLUMNS = 40  # that a message lists
KEPT_COLUMNS = 1000  # that are kept of a file whose every row may have others


@dataclass(kw_only=True)
class Imported:
    """The counts of an import: stories read = kept + rejected.

    `scored` stories have a score; `missing` are the fields whose columns no row has; `threads` has the posts of each title,
    where rows are whole threads.
    """

    import_number: int | None
    read: int = 0
    kept: int = 0
    rejected: int = 0
    scored: int = 0
    first_reject: str = ""
    missing: tuple[str, ...] = ()
    threads: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @property
    def repeated_titles(self) -> int:
        return sum(len(posts) > 1 for posts in self.threads.values())


@dataclass(frozen=True)
class TableContent:
    """How the rows of a table are read.

    Args:
        columns: from title, body, score and, where known, post_id, reply_id, post_body, post_score, post_created_utc,
            created_utc, author to the table's columns; None: nothing is read. Missing ids are made up from the texts.
        seen_at: Unix seconds at which the scores were read. None: unknown; the last of several such imports counts.
        ids: "reddit": they are Reddit's, which can be asked about them; "own": only those with a prefix (t1_, t3_) are.
        optional: fields whose columns may be missing.
    """

    columns: Mapping[str, str | None]
    subreddit: str
    seen_at: float | None = None
    ids: Ids = "own"
    optional: Collection[str] = ()

    @property
    def mapped(self) -> dict[str, str]:
        """The columns that are read."""
        return {name: column for name, column in self.columns.items() if column}


def import_table(
    store: Store, path: str | Path, content: TableContent, progress: Callable[[int], None] = lambda stories: None
) -> Imported:
    """Read every row of a table, or of all tables of a folder or a pattern, into the store, in one transaction.

    A row is one reply with its post, or a post with lists of replies. A story with a cell that makes no sense becomes a reject,
    as does a line that is no row; what an earlier import of the file with the same columns rejected is forgotten.

    Raises:
        UserError: no such file, an unknown format, a column that is not there, no usable row. Nothing is stored then.
    """
    files = files_at(Path(path))
    there = _Columns(content.mapped, content.optional, str(path) if len(files) > 1 else files[0].name)
    for file in files:
        there.add_header(columns_at(file))
    with store.transaction():
        number = store.next_import() if content.seen_at is None else None
        records = TableRecords(
            columns=content.mapped,
            subreddit=content.subreddit,
            seen_at=content.seen_at,
            ids=content.ids,
            import_number=number,
        )
        imported = Imported(import_number=number)
        for file in files:
            _FileImport(store, file, records, imported, there, progress).run()
        imported.missing = there.missing()
        if imported.rejected == imported.read:
            raise UserError(
                f"none of the {imported.read} stories can be used; {imported.first_reject}"
                if imported.read
                else f"{path} has no rows"
            )
        if number is not None:
            store.drop_repeated(number)
    return imported


class _Columns:
    """The columns that an import finds, held against those that it was told to read."""

    def __init__(self, mapped: Mapping[str, str], optional: Collection[str], where: str) -> None:
        self._mapped, self._optional, self._where = mapped, optional, where
        self._present: dict[str, None] = {}  # in the order of the file
        self._any_row = False

    def add_header(self, names: list[str] | None) -> None:
        """Note the columns of a file that names them before its rows.

        Raises:
            UserError: a required column is missing.
        """
        if names is not None:
            self.add(names)
            self._require([name for name in REQUIRED if self._mapped.get(name) not in names])

    def add(self, names: Collection[str]) -> None:
        self._any_row = True
        room = len(self._present) < KEPT_COLUMNS
        self._present |= dict.fromkeys(names if room else (name for name in self._mapped.values() if name in names))

    def missing(self) -> tuple[str, ...]:
        """Fields whose columns may be missing and are.

        Raises:
            UserError: a required column is missing; the message ends in the override to type.
        """
        if not self._any_row:
            return ()
        missing = [name for name in dict.fromkeys([*REQUIRED, *self._mapped]) if self._mapped.get(name) not in self._present]
        self._require([name for name in missing if name in REQUIRED])
        if named := [name for name in missing if name not in self._optional]:
            self._refuse(named, " ".join(f"source.columns.{name}=null" for name in named))
        return tuple(missing)

    def _require(self, absent: list[str]) -> None:
        if absent:
            self._refuse(absent, " ".join(f"source.columns.{name}=<one of these>" for name in absent))

    def _refuse(self, absent: list[str], remedy: str) -> None:
        shown = list(self._present)[:SHOWN_COLUMNS] + ["..."] * (len(self._present) > SHOWN_COLUMNS)
        unmapped = [name for name in absent if name not in self._mapped]
        if unmapped:
            raise UserError(
                f"source.columns must map {', '.join(unmapped)} to columns of {self._where}, "
                f"which has {', '.join(shown)}: type {remedy}"
            )
        columns = ", ".join(f"{name}: {self._mapped[name]}" for name in absent)
        raise UserError(f"{self._where} has no column for {columns}; it has {', '.join(shown)}: name another, or type {remedy}")


class _FileImport:
    """One file of an import."""

    def __init__(
        self,
        store: Store,
        file: Path,
        records: TableRecords,
        imported: Imported,
        there: _Columns,
        progress: Callable[[int], None],
    ) -> None:
        self._store, self._file, self._records, self._imported = store, file, records, imported
        self._there, self._progress = there, progress
        self._origin = Origin(SOURCE, str(file.resolve()), json.dumps(dict(records.columns), sort_keys=True))

    def run(self) -> None:
        """
        Raises:
            UserError: more than half of the lines are none, which is another kind of file.
        """
        self._store.forget_rejects(self._origin)
        lines, bad = 0, []
        for row in rows_of(self._file, self._records.columns.values()):
            lines += 1
            if isinstance(row, Row):
                self._there.add(row.cells)
                for part, story in enumerate(self._stories(row)):
                    self._take(row.number, part, story)
            else:
                bad.append(row)
                self._imported.read += 1
                self._reject(row.number, 0, row.reason, row.line)
        if 2 * len(bad) > lines:
            raise UserError(_what_is_wrong(self._file, bad, lines))

    def _stories(self, row: Row) -> Iterator[Story | ValueError]:
        try:
            yield from self._records.stories(row.cells)
        except ValueError as error:
            yield error

    def _take(self, number: int, part: int, story: Story | ValueError) -> None:
        """One story into the store, or the reason why not."""
        self._imported.read += 1
        if self._imported.read % CHUNK_STORIES == 0:
            self._progress(self._imported.read)
        try:
            if isinstance(story, ValueError):
                raise story
            records = self._records.records(story)
        except ValueError as error:
            fields: Any = {} if isinstance(story, ValueError) else story.fields
            self._reject(number, part, str(error), json.dumps(fields, default=str).encode())
        else:
            self._keep(story, records)

    def _keep(self, story: Any, records: list[Post | Reply | Observation]) -> None:
        self._store.add(records)
        self._imported.kept += 1
        self._imported.scored += isinstance(records[-1], Observation) and records[-1].kind == "reply"
        post = records[0]
        if story.thread is not None and isinstance(post, Post):
            self._imported.threads[post.title].add(post.id)

    def _reject(self, number: int, part: int, reason: str, line: bytes) -> None:
        self._imported.rejected += 1
        unit = "row" if self._file.suffix == ".parquet" else "line"
        self._imported.first_reject = self._imported.first_reject or f"{self._file.name}, {unit} {number}: {reason}"
        self._store.reject(self._origin, number, reason, line, part)


def _what_is_wrong(file: Path, bad: list[BadLine], lines: int) -> str:
    what = "are no JSON" if bad[0].reason.startswith("no JSON") else "are no rows of such a table"
    return f"{len(bad):,} of {lines:,} lines of {file} {what}, the first is line {bad[0].number}: {bad[0].reason}"

"""The sources that read tables: `conf/source/table.yaml`, `threads.yaml` and `source_target.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from rfr.collect.files.table_paths import table_name
from rfr.collect.files.table_records import Ids
from rfr.collect.sources import FileSource, given_path, say
from rfr.errors import UserError
from rfr.reddit.field_values import time_of
from rfr.store.rejects import rejects_file, write_rejects
from rfr.store.store import Store

if TYPE_CHECKING:
    from rfr.collect.files.table_import import Imported
    from rfr.reddit.crawler import Report


TABLE = "a .parquet, .jsonl or .csv file"


class Columns(TypedDict, total=False):
    """Our fields; each has a table's column, or None."""

    title: str | None
    body: str | None
    score: str | None
    post_id: str | None
    reply_id: str | None
    post_score: str | None
    post_body: str | None
    post_created_utc: str | None
    created_utc: str | None
    author: str | None


@dataclass(frozen=True, kw_only=True)
class TableSource(FileSource):
    """Tables people already have; see `tables.import_table` for the columns.

    Args:
        path: a file, a folder or a pattern; all its files are one import.
        ids: who made the ids without a prefix (t1_, t3_): the table, so that Reddit does not know them, or Reddit.
        optional: fields whose columns may be missing, since nobody named them.
    """

    path: str | None
    columns: Columns
    subreddit: str
    seen_at: float | int | str | None = None
    ids: Ids = "own"
    optional: Sequence[str] = ()

    def __post_init__(self) -> None:
        _ = self._read_at  # raises where it is no time

    @property
    def _read_at(self) -> float | None:
        """`seen_at` in Unix seconds."""
        try:
            return time_of(self.seen_at, "source.seen_at")
        except ValueError as error:
            raise UserError(str(error)) from error

    @property
    def _mapping(self) -> dict[str, str | None]:
        return {str(name): column for name, column in self.columns.items()}  # type: ignore[misc]

    def store_name(self) -> str:
        """That of the file or folder, so that a second table is not merged into the first unasked."""
        return table_name(given_path(self.path, TABLE))

    def collect(self, store: Store, report: Report) -> dict[str, Any]:
        from rfr.collect.files.table_import import TableContent, import_table

        path = given_path(self.path, TABLE)
        content = TableContent(self._mapping, str(self.subreddit), self._read_at, self.ids, self.optional)
        imported = import_table(store, path, content, lambda stories: report("stories", stories))
        write_rejects(store)
        for line in _about(imported, path, self._mapping, store):
            say(line)
        counts = {"read": imported.read, "kept": imported.kept, "rejected": imported.rejected, "scored": imported.scored}
        return {"path": str(path), **counts, "repeated_titles": imported.repeated_titles}


LOST = {  # what follows where a column is absent
    "post_id": "posts are told apart by their titles",
    "reply_id": "replies by their texts",
    "post_body": "posts have no text beside their titles",
    "post_score": "the posts' scores are unknown",
    "post_created_utc": "so is when posts were written",
    "created_utc": "when replies were written is unknown",
    "author": "bots can't be told by their names",
}


def _about(imported: Imported, path: Path, columns: Mapping[str, str | None], store: Store) -> Iterator[str]:
    """The notes on an import that the user should read, a line each."""
    if imported.missing:
        without = ", ".join(str(columns[name]) for name in imported.missing)
        yield f"{path.name} has no {without}: {', '.join(LOST[name] for name in imported.missing)}"
    if imported.rejected:
        yield (
            f"{imported.rejected:,} of {imported.read:,} stories are rejected, the first: {imported.first_reject}; "
            f"{rejects_file(store)} has all"
        )
    if repeated := imported.repeated_titles:
        yield (
            f"{repeated:,} title{'s occur' if repeated > 1 else ' occurs'} twice{' or more' * (repeated > 1)}: each post is a "
            "thread of its own"
        )
    if (imported.import_number or 0) > 1:
        yield (
            f"these scores came without a time: the order of import stands for it, so of two scores of a story this import's "
            f"(number {imported.import_number}) counts; source.seen_at=<date> says when they were read"
        )

"""The SQLite store: items, append-only observations of their scores, and cursors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any, NamedTuple

from rfr.errors import UserError
from rfr.records import Kind, Observation, Post, Reply, Thread
from rfr.store.sqlite_file import StoreFile
from rfr.store.upsert import INSERTIONS, table_of

READ = "read/"  # prefix of the cursors that hold which files were read with which columns
TEXTS, READINGS = ("post", "reply"), "observation"
READ_AGAIN = """SELECT first, second FROM (
    SELECT score AS first, lead(score) OVER (PARTITION BY item_id, source ORDER BY observation.seen_at) AS second
    FROM observation JOIN reply ON kind = 'reply' AND reply.id = item_id
    WHERE NOT hidden AND score IS NOT NULL AND observation.seen_at - created_utc >= ?
) WHERE second IS NOT NULL"""
WITHOUT_POST = "post_id NOT IN (SELECT id FROM post)"
# Readings of an import that repeat what the import before it said of the item.
REPEATED = """SELECT kind, item_id FROM observation AS new WHERE import_number = :number GROUP BY kind, item_id
    HAVING max(score) = (
        SELECT max(score) FROM observation AS old
        WHERE old.item_id = new.item_id AND old.kind = new.kind AND old.import_number = (
            SELECT max(import_number) FROM observation AS earlier
            WHERE earlier.item_id = new.item_id AND earlier.kind = new.kind AND import_number < :number))"""
FLAGS = {"stickied", "hidden", "missing", "archived", "deleted"}


class Origin(NamedTuple):
    """Where rejects come from.

    Args:
        source: "dump", "table", or the name of a live source.
        file: the path of a file that was read.
        columns: which columns a table was read with.
    """

    source: str
    file: str = ""
    columns: str = ""


class Store(StoreFile):
    """A store. Writes go through `transaction()`, so that a page and its cursor commit together."""

    def add(self, records: Iterable[Post | Reply | Observation]) -> None:
        """Append observations, each once; keep the best version of a post or reply, and none of what was erased."""
        for record in records:
            self._db.execute(INSERTIONS[type(record)], vars(record))  # `asdict` would copy every text

    def reject(self, origin: Origin, offset: int, reason: str, line: bytes, part: int = 0) -> None:
        """Keep what could not be read: where it stood, why, and the line itself.

        Args:
            offset: in bytes of a dump, in lines of a table (rows of Parquet).
            part: the index of the story in a row with several.
        """
        self._db.execute("INSERT OR IGNORE INTO reject VALUES (?, ?, ?, ?, ?, ?, ?)", (*origin, offset, part, reason, line))

    def forget_rejects(self, origin: Origin) -> None:
        """Delete the rejects of a file's earlier reading, and record that it is read again."""
        key = hashlib.sha256("\0".join(origin).encode()).hexdigest()[:16]
        self.set_cursor(f"{READ}{key}", json.dumps(origin))
        self._db.execute("DELETE FROM reject WHERE source = ? AND file = ? AND columns = ?", origin)

    def next_import(self) -> int:
        """The number of the next import of readings without times."""
        return self.rows("SELECT ifnull(max(import_number), 0) + 1 FROM observation")[0][0]

    def drop_repeated(self, import_number: int) -> None:
        """Drop the readings of an import that repeat the import before: a file read again changes nothing."""
        self._db.execute(
            f"DELETE FROM observation WHERE import_number = :number AND (kind, item_id) IN ({REPEATED})",
            {"number": import_number},
        )

    def blank_rejects(self) -> None:
        """Forget what the rejected lines held; where they stood and why they were rejected stays."""
        self._db.execute("UPDATE reject SET line = x''")

    def clamp_future_reads(self, now: float) -> None:
        """Count what was read in the future as read now."""
        for table in (*TEXTS, READINGS):
            self._db.execute(f"UPDATE OR REPLACE {table} SET seen_at = ? WHERE seen_at > ?", (now, now))

    def erase(self, kind: Kind, item_id: str) -> None:
        """Text and author of a post or reply; a tombstone keeps later imports from bringing them back."""
        title = "title = '[deleted]', flair = NULL, " if kind == "post" else ""
        self._db.execute(f"UPDATE {kind} SET {title}body = '[deleted]', author = '[deleted]' WHERE id = ?", (item_id,))
        self._db.execute("INSERT OR REPLACE INTO tombstone VALUES (?, ?, 'text')", (kind, item_id))

    def erase_author(self, kind: Kind, item_id: str) -> None:
        """The author alone: the account is gone, the text stays on Reddit."""
        self._db.execute("INSERT OR IGNORE INTO tombstone VALUES (?, ?, 'author')", (kind, item_id))

    def clear_residue(self) -> None:
        """The last of what was erased; freed pages and the write-ahead log are emptied.

        Raises:
            UserError: another process reads the store, which keeps the log from being emptied.
        """
        with self.transaction():
            self._db.execute("DELETE FROM residue")
        self._db.execute("VACUUM")
        ((busy, _, _),) = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise UserError(f"another process reads {self.path}, so its log still holds what was erased: end it and purge again")

    def note_gap(self, listing: str, after_utc: float, before_utc: float, noticed_at: float) -> None:
        """On record: what the listing held between these times was never seen."""
        self._db.execute("INSERT INTO gap VALUES (?, ?, ?, ?)", (listing, after_utc, before_utc, noticed_at))

    def cursor(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM cursor WHERE name = ?", (name,)).fetchone()
        return row and row[0]

    def set_cursor(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?)", (name, value))

    def drop_cursor(self, name: str) -> None:
        self._db.execute("DELETE FROM cursor WHERE name = ?", (name,))

    def replies_without_post(self) -> int:
        """How many replies answer a post that never came in."""
        return self.rows(f"SELECT count(*) FROM reply WHERE {WITHOUT_POST}")[0][0]

    def counts(self) -> dict[str, int]:
        """Rows per table."""
        return {table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in (*TEXTS, READINGS)}

    def digest(self) -> str:
        """SHA-256 over the content in key order: equal for equal content, however it was collected and however often.

        Readings without times are an exception: the order of their imports counts, so import numbers are content.
        """
        sha = hashlib.sha256()
        for record in (Post, Reply, Observation):
            names = [field.name for field in fields(record)]
            for row in self._db.execute(f"SELECT {', '.join(names)} FROM {table_of(record)} ORDER BY {', '.join(names)}"):
                sha.update(repr(row).encode())
        for what in ("DISTINCT reason, line FROM reject", "kind, item_id, reason FROM tombstone"):
            for row in self._db.execute(f"SELECT {what} ORDER BY 1, 2"):
                sha.update(repr(row).encode())
        return sha.hexdigest()

    def threads(self) -> Iterator[Thread]:
        """All threads by post id, one at a time; replies by id, never in the order Reddit listed them.

        That order is a trace of karma. Of the observations the newest that is not hidden counts; of readings without times,
        which are older than all others, those of the last import.
        """
        replies = groupby(self.select(Reply, "reply ORDER BY post_id, id"), key=lambda reply: reply.post_id)
        group: tuple[str, Iterator[Reply]] | None = next(replies, None)
        for post in self.select(Post, "post ORDER BY id"):
            while group is not None and group[0] < post.id:  # replies whose post was never seen
                group = next(replies, None)
            mine: tuple[Reply, ...] = ()
            if group is not None and group[0] == post.id:
                mine = tuple(group[1])
                group = next(replies, None)
            yield Thread(
                post=post,
                replies=mine,
                observations=self._newest("reply", "SELECT id FROM reply WHERE post_id = ?", post.id),
                post_observation=self._newest("post", "SELECT ?", post.id).get(post.id),
            )

    def threads_without_post(self) -> Iterator[Thread]:
        """The replies whose posts never came in, by their posts' ids; these posts have no title."""
        replies = self.select(Reply, f"reply WHERE {WITHOUT_POST} ORDER BY post_id, id")
        for post_id, group in groupby(replies, key=lambda reply: reply.post_id):
            observations = self._newest("reply", "SELECT id FROM reply WHERE post_id = ?", post_id)
            yield Thread(post=Post(id=post_id, subreddit="", title=""), replies=tuple(group), observations=observations)

    def _newest(self, kind: Kind, ids: str, post_id: str) -> dict[str, Observation]:
        """The newest usable observation of these items of a thread, by their ids."""
        readings = self.select(
            Observation,
            f"observation WHERE kind = '{kind}' AND item_id IN ({ids}) AND NOT hidden AND score IS NOT NULL "
            "ORDER BY seen_at, import_number, source, score",
            (post_id,),
        )
        return {reading.item_id: reading for reading in readings}

    def read_again(self, age_s: float) -> list[tuple[int, int]]:
        """Scores of a reply at two readings of one source in a row, neither hidden, both when it was that old or older."""
        return self.rows(READ_AGAIN, (age_s,))

    def select(self, record: type, clause: str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> Iterator:
        """Records of this type, one at a time; the clause names the table."""
        names = [field.name for field in fields(record)]
        for row in self._db.execute(f"SELECT {', '.join(names)} FROM {clause}", parameters):
            values = dict(zip(names, row, strict=True))
            values |= {flag: bool(values[flag]) for flag in FLAGS & values.keys()}
            yield record(**values)

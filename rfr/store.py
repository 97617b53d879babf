"""The SQLite ledger: items, append-only observations of their scores, cursors. The only state that can't be recomputed."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rfr.errors import UserError
from rfr.insertion import INSERTIONS, table_of
from rfr.records import Observation, Post, Reply, Thread
from rfr.schema import VERSION, migrate, version_of

TEXTS, READINGS = ("post", "reply"), "observation"
READ_AGAIN = """SELECT first, second FROM (
    SELECT score AS first, lead(score) OVER (PARTITION BY item_id, source ORDER BY observation.seen_at) AS second
    FROM observation JOIN reply ON reply.id = item_id
    WHERE NOT hidden AND score IS NOT NULL AND observation.seen_at - created_utc >= ?
) WHERE second IS NOT NULL"""
CANNOT_WRITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
FLAGS = {"stickied", "hidden", "missing", "archived"}


class Store:
    """One SQLite file. Writes go through `transaction()`, so that a page and its cursor commit together.

    Args:
        write: create the file where there is none, and keep other writers out until `close`.

    Raises:
        UserError: the file does not exist, is no store or is of a newer version; another process is writing to it.
    """

    def __init__(self, path: str | Path, *, write: bool = False) -> None:
        self.path = Path(path)
        if not write and not self.path.is_file():
            raise UserError(
                f"no store at {self.path}: run collect.py first, name another (store=..., source=demo), or train on corpus=demo"
            )
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder: a store is a file, such as {self.path / 'store.db'}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{self.path}.lock", blocking=False) if write else None
        self._take_lock()
        self._db = sqlite3.connect(self.path, isolation_level=None)
        try:
            self._open(writing=write)
        except sqlite3.DatabaseError as error:
            self.close()
            self._tell_if_unwritable(error)
            raise UserError(f"{self.path} is no rfr store ({error}): give another path, or move that file away") from error
        except UserError:
            self.close()
            raise

    def _take_lock(self) -> None:
        try:
            if self._lock is not None:
                self._lock.acquire()
        except Timeout:
            raise UserError(f"another process is writing to {self.path}: wait for it to end, or give another store") from None

    def _open(self, *, writing: bool) -> None:
        version = version_of(self._db)
        if version is None or version > VERSION:
            shown = "no" if version is None else str(version)
            raise UserError(f"{self.path} has schema version {shown}, this rfr reads up to {VERSION}: install a newer rfr")
        if writing:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")  # what is erased is overwritten, not just unlinked
        migrate(self._db, version)

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        """Close and remove a store into which nothing came, or whose content another one has."""
        self._db.close()
        for path in (self.path, Path(f"{self.path}.rejects.jsonl")):
            path.unlink(missing_ok=True)
        Path(f"{self.path}.lock").unlink()  # still held: who waits for it will see that it lost its name
        self.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: what is written inside commits at the end, or not at all.

        Raises:
            UserError: the disk is full, or the file may not be written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._tell_if_unwritable(error)
            raise

    def _tell_if_unwritable(self, error: BaseException) -> None:
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise UserError(f"another program keeps {self.path} locked: close it, then go on") from None
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in CANNOT_WRITE:
            raise UserError(f"can't write to {self.path} ({error}): what was committed is kept, make room, go on") from None

    def add(self, records: Iterable[Post | Reply | Observation]) -> None:
        """Append observations, each once; keep the best version of a post or reply, and none of what was erased."""
        for record in records:
            self._db.execute(INSERTIONS[type(record)], vars(record))  # `asdict` would copy every text

    def reject(self, source: str, offset: int, reason: str, line: bytes) -> None:
        """Keep what could not be read: where it stood, why, and the line itself."""
        self._db.execute("INSERT OR IGNORE INTO reject VALUES (?, ?, ?, ?)", (source, offset, reason, line))

    def blank_rejects(self) -> None:
        """Forget what the rejected lines held; where they stood and why they were rejected stays."""
        self._db.execute("UPDATE reject SET line = x''")

    def pull_back(self, now: float) -> None:
        """Count what was read in the future as read now."""
        for table in (*TEXTS, READINGS):
            self._db.execute(f"UPDATE OR REPLACE {table} SET seen_at = ? WHERE seen_at > ?", (now, now))

    def erase(self, table: str, item_id: str) -> None:
        """Text and author of a post or reply; a tombstone keeps later imports from bringing them back."""
        title = "title = '[deleted]', flair = NULL, " if table == "post" else ""
        self._db.execute(f"UPDATE {table} SET {title}body = '[deleted]', author = '[deleted]' WHERE id = ?", (item_id,))
        self._db.execute("INSERT OR REPLACE INTO tombstone VALUES (?, 'text')", (item_id,))

    def erase_author(self, item_id: str) -> None:
        """The author alone: the account is gone, the text stays on Reddit."""
        self._db.execute("INSERT OR IGNORE INTO tombstone VALUES (?, 'author')", (item_id,))

    def forget_residue(self) -> None:
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

    def rows(self, query: str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> list[tuple]:
        """What a SELECT finds; schema.py has the tables."""
        return self._db.execute(query, parameters).fetchall()

    def drop_cursor(self, name: str) -> None:
        self._db.execute("DELETE FROM cursor WHERE name = ?", (name,))

    def counts(self) -> dict[str, int]:
        """Rows per table."""
        return {table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in (*TEXTS, READINGS)}

    def digest(self) -> str:
        """SHA-256 over the content in key order: equal for equal content, however it was collected."""
        sha = hashlib.sha256()
        for record in (Post, Reply, Observation):
            names = [field.name for field in fields(record)]
            for row in self._db.execute(f"SELECT {', '.join(names)} FROM {table_of(record)} ORDER BY {', '.join(names)}"):
                sha.update(repr(row).encode())
        for table in ("reject", "tombstone"):
            for row in self._db.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):
                sha.update(repr(row).encode())
        return sha.hexdigest()

    def threads(self) -> Iterator[Thread]:
        """All threads by post id, one at a time; replies by id, never in the order Reddit listed them.

        That order is a trace of karma. Of the observations the newest that is not hidden counts.
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
            yield Thread(post=post, replies=mine, observations=self._newest_observations(post.id))

    def _newest_observations(self, post_id: str) -> dict[str, Observation]:
        """Of a thread's items, by their ids."""
        readings = self.select(
            Observation,
            "observation WHERE item_id IN (SELECT id FROM reply WHERE post_id = :post UNION ALL SELECT :post) "
            "AND NOT hidden AND score IS NOT NULL ORDER BY seen_at, source",
            {"post": post_id},
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

"""The SQLite ledger: items, append-only observations of their scores, cursors. The only state that can't be recomputed."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from itertools import groupby
from pathlib import Path

from rfr.errors import UserError
from rfr.records import Observation, Post, Reply, Thread

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE post (
    id TEXT PRIMARY KEY, subreddit TEXT NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL, author TEXT,
    created_utc REAL, flair TEXT, stickied INTEGER NOT NULL, distinguished TEXT
) WITHOUT ROWID;
CREATE TABLE reply (
    id TEXT PRIMARY KEY, post_id TEXT NOT NULL, body TEXT NOT NULL, author TEXT,
    created_utc REAL, stickied INTEGER NOT NULL, distinguished TEXT
) WITHOUT ROWID;
CREATE INDEX reply_by_post ON reply (post_id, id);
CREATE TABLE observation (
    item_id TEXT NOT NULL, seen_at REAL, source TEXT NOT NULL, score INTEGER, hidden INTEGER NOT NULL
);
CREATE UNIQUE INDEX observation_once ON observation (item_id, ifnull(seen_at, -1), source);
CREATE TABLE cursor (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Store:
    """One SQLite file. Writes go through `transaction()`, so that a page and its cursor commit together.

    Raises:
        UserError: the file does not exist (and `create` is false), is no store, or is of another version.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise UserError(f"no store at {self.path}: run collect.py first, or use corpus=demo")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(self.path, isolation_level=None)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise UserError(f"{self.path} is no rfr store ({error}): give another path, or move that file away") from error

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            self._db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise UserError(
                f"{self.path} has schema version {version}, this rfr reads {SCHEMA_VERSION}: install the matching rfr"
            )

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: what is written inside commits at the end, or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def add(self, records: Iterable[Post | Reply | Observation]) -> None:
        """Insert or refresh posts and replies; append observations (the same reading twice is kept once)."""
        for record in records:
            table = type(record).__name__.lower()
            row = asdict(record)
            marks = ", ".join(f":{name}" for name in row)
            verb = "INSERT OR IGNORE" if table == "observation" else "INSERT OR REPLACE"
            self._db.execute(f"{verb} INTO {table} ({', '.join(row)}) VALUES ({marks})", row)

    def cursor(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM cursor WHERE name = ?", (name,)).fetchone()
        return row and row[0]

    def set_cursor(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?)", (name, value))

    def counts(self) -> dict[str, int]:
        """Rows per table."""
        return {
            table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("post", "reply", "observation")
        }

    def digest(self) -> str:
        """SHA-256 over the content in key order: equal for equal content, however it was collected."""
        sha = hashlib.sha256()
        for table, key in (("post", "id"), ("reply", "id"), ("observation", "item_id, seen_at, source")):
            for row in self._db.execute(f"SELECT * FROM {table} ORDER BY {key}"):
                sha.update(repr(row).encode())
        return sha.hexdigest()

    def threads(self) -> Iterator[Thread]:
        """All threads by post id, one at a time; replies by id, never in the order Reddit listed them.

        That order is a trace of karma. Of the observations the newest that is not hidden counts.
        """
        newest = self._newest_observations()
        replies = groupby(self._select(Reply, "reply ORDER BY post_id, id"), key=lambda reply: reply.post_id)
        group: tuple[str, Iterator[Reply]] | None = next(replies, None)
        for post in self._select(Post, "post ORDER BY id"):
            while group is not None and group[0] < post.id:  # replies whose post was never seen
                group = next(replies, None)
            mine: tuple[Reply, ...] = ()
            if group is not None and group[0] == post.id:
                mine = tuple(group[1])
                group = next(replies, None)
            ids = [post.id, *(reply.id for reply in mine)]
            yield Thread(post=post, replies=mine, observations={i: newest[i] for i in ids if i in newest})

    def _newest_observations(self) -> dict[str, Observation]:
        rows = self._select(Observation, "observation WHERE NOT hidden AND score IS NOT NULL ORDER BY seen_at, source")
        return {observation.item_id: observation for observation in rows}

    def _select(self, record: type, clause: str) -> Iterator:
        names = [field.name for field in fields(record)]
        for row in self._db.execute(f"SELECT {', '.join(names)} FROM {clause}"):
            values = dict(zip(names, row, strict=True))
            for flag in ("stickied", "hidden"):
                if flag in values:
                    values[flag] = bool(values[flag])
            yield record(**values)

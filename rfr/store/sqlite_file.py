"""The SQLite file of a store: opened, locked, and written page by page, whole or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from rfr.errors import UserError
from rfr.records import is_gone
from rfr.store.schema import VERSION, migrate, version_of

CANNOT_WRITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


class StoreFile:
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
        if write:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{self.path}.lock", blocking=False) if write else None
        self._take_lock()
        self._db = self._connect(writing=write)
        self._db.create_function("is_gone", 1, is_gone, deterministic=True)
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
        except (Timeout, PermissionError):
            if not _is_writable(Path(f"{self.path}.lock")):
                raise UserError(f"can't write to {self.path.parent}: make it writable, or give another store") from None
            raise UserError(f"another process is writing to {self.path}: wait for it to end, or give another store") from None

    def _connect(self, *, writing: bool) -> sqlite3.Connection:
        """A store that lies where nothing can be written is read as it is: SQLite would make files beside it."""
        log = Path(f"{self.path}-wal")
        if writing or _is_writable(log) or (log.exists() and log.stat().st_size):
            return sqlite3.connect(self.path, isolation_level=None)
        return sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)

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
        Path(f"{self.path}.lock").unlink()  # unlink while locked: a waiter finds its lock file gone and takes a new one
        self.close()

    def __enter__(self) -> Self:
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

    def rows(self, query: str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> list[tuple]:
        """The rows of a SELECT; schema.py has the tables."""
        return self._db.execute(query, parameters).fetchall()


def _is_writable(path: Path) -> bool:
    """Whether this file, or where there is none its folder, can be written to."""
    return os.access(path if path.exists() else path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids)

"""Imports many files at once: each job of a multirun fills a shard beside the store, then merges it.

So the launcher may be any of Hydra's (joblib, submitit, Ray), and no two processes write to one file at a time. The shard of an
interrupted job is merged when the next multirun and all its jobs have ended.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rfr.collect.files.dumps import MARKS as FILE_MARKS
from rfr.collect.files.dumps import missing_posts
from rfr.collect.sources import AUTO, say
from rfr.errors import UserError
from rfr.records import Observation, Post, Reply
from rfr.store.rejects import write_rejects
from rfr.store.store import READ, Origin, Store

BEGUN = "begun/"  # prefix of the cursors of a shard that hold what the store's cursors were when the shard began
MOVED = """SELECT name, value FROM cursor AS mark WHERE name NOT LIKE :begun || '%'
    AND NOT EXISTS (SELECT 1 FROM cursor WHERE name = :begun || mark.name AND value = mark.value)"""


class MergeShards(Callback):
    """Merges the shards of a multirun into their store at its end."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        path = _store_of(config)
        if path is None:
            return
        with suppress(UserError):  # another process writes to the store: the next multirun merges it
            merge(path)  # of an interrupted job
        remove_if_empty(path)
        if path.exists():
            with Store(path) as store:
                if lacking := missing_posts(store):
                    say(lacking)
                print(json.dumps({"store": str(path), **store.counts(), "digest": store.digest()}))


def _store_of(config: DictConfig) -> Path | None:
    """The store that all jobs share; None where each table has one of its own."""
    if config.store != AUTO:
        return Path(str(config.store))
    name = config.source.subreddit if "columns" not in config.source else None
    return Path(str(config.data_dir)) / f"{name}.db" if name else None


def shards_folder(path: Path) -> Path:
    """Where the parts of a store lie."""
    return path.with_name(f"{path.name}.parts")


def new_shard(path: Path, key: str) -> Path:
    """The part of a store that one job fills; it begins with the store's marks of files, so that nothing is imported twice."""
    shard = shards_folder(path) / f"{key}.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _merge_lock(path):  # a store that another job is creating can't be read yet
        if path.exists() and not shard.exists():
            with Store(path) as store, Store(shard, write=True) as fresh, fresh.transaction():
                for name, value in store.rows("SELECT name, value FROM cursor WHERE name LIKE ? || '%'", (FILE_MARKS,)):
                    fresh.set_cursor(name, value)
                    fresh.set_cursor(BEGUN + name, value)
    return shard


def _merge_lock(path: Path) -> FileLock:
    """Held by who makes parts of a store or merges them."""
    return FileLock(f"{shards_folder(path)}.lock")


def merge_shard(path: Path, shard: Path) -> None:
    """The part that a job has just filled into its store, once nobody else is merging.

    It leaves other jobs' shards alone: another job may be about to open its own.
    """
    with _merge_lock(path):
        _merge_unlocked(path, shard)


def merge(path: Path) -> int:
    """The parts that nobody is filling into their store, each in one transaction, then removed; returns how many.

    Waits for other processes that are merging.

    Raises:
        UserError: another process is writing to the store.
    """
    shards = shards_folder(path)
    if not shards.is_dir():
        return 0
    with _merge_lock(path):
        return sum(_merge_unlocked(path, shard) for shard in sorted(shards.glob("*.db")))


def remove_if_empty(path: Path) -> None:
    """Remove the folder of parts if it is empty. Only where no job is left that may be about to put one there."""
    with suppress(OSError):
        shards_folder(path).rmdir()


def _merge_unlocked(path: Path, shard: Path) -> bool:
    try:
        source = Store(shard, write=True)
    except UserError:  # its job still writes to it
        return False
    with source, Store(path, write=True) as store:
        with store.transaction():
            for record in (Post, Reply):
                store.add(source.select(record, record.__name__.lower()))
            _merge_readings(store, source)
            # Only the cursors that its job moved: the copy of another file's cursor would set that one back.
            for name, value in source.rows(MOVED, {"begun": BEGUN}):
                store.set_cursor(name, value)
            for (what,) in source.rows("SELECT value FROM cursor WHERE name LIKE ? || '%'", (READ,)):
                store.forget_rejects(Origin(*json.loads(what)))
            for *origin, offset, reason, line, part in source.rows(
                "SELECT source, file, columns, offset, reason, line, part FROM reject"
            ):
                store.reject(Origin(*origin), offset, reason, line, part)
        write_rejects(store)
        source.discard()
    return True


def _merge_readings(store: Store, shard: Store) -> None:
    """Each import of readings without a time becomes the store's next one."""
    store.add(shard.select(Observation, "observation WHERE import_number IS NULL"))
    for (number,) in shard.rows("SELECT DISTINCT import_number FROM observation WHERE import_number IS NOT NULL ORDER BY 1"):
        new = store.next_import()
        readings = shard.select(Observation, "observation WHERE import_number = ?", (number,))
        store.add(replace(reading, import_number=new) for reading in readings)
        store.drop_repeated(new)

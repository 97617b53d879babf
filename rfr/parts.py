"""Many files at once: each job of a multirun fills a part of its own beside the store, and the parts are merged at the end.

So the launcher may be any of Hydra's (joblib, submitit, Ray), and no two processes ever write to one file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rfr.records import Observation, Post, Reply
from rfr.reddit.dumps import MARKS as FILE_MARKS
from rfr.store import Store

SUFFIX = ".parts"
BEGUN = "begun/"  # before the name of a mark in a part: what it was in the store when the part began
MOVED = """SELECT name, value FROM cursor AS mark WHERE name NOT LIKE :begun || '%'
    AND NOT EXISTS (SELECT 1 FROM cursor WHERE name = :begun || mark.name AND value = mark.value)"""


class Parts(Callback):
    """Merges what an interrupted multirun left before a new one starts, and the new one's parts at its end."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        merge_all(Path(config.store).parent)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        for path in merge_all(Path(config.store).parent):
            with Store(path) as store:
                print(json.dumps({"store": str(path), **store.counts(), "digest": store.digest()}))


def part_of(path: Path, key: str) -> Path:
    """The part of a store that one job fills; it begins with the store's marks of files, so that nothing is imported twice."""
    part = path.with_name(f"{path.name}{SUFFIX}") / f"{key}.db"
    if path.exists() and not part.exists():
        with Store(path) as store, Store(part, write=True) as fresh, fresh.transaction():
            for name, value in store.rows("SELECT name, value FROM cursor WHERE name LIKE ? || '%'", (FILE_MARKS,)):
                fresh.set_cursor(name, value)
                fresh.set_cursor(BEGUN + name, value)
    return part


def merge_all(folder: Path) -> list[Path]:
    """Merge the parts of every store in this folder; returns the stores that grew."""
    return [store for parts in sorted(folder.glob(f"*{SUFFIX}")) if merge(store := parts.with_name(parts.stem), parts)]


def merge(path: Path, parts: Path) -> int:
    """All parts of a store into it, each in one transaction, then removed; returns how many.

    Raises:
        UserError: somebody is still writing to the store or a part.
    """
    found = sorted(parts.glob("*.db"))
    for part in found:
        with Store(path, write=True) as store, Store(part, write=True) as source:
            with store.transaction():
                for record in (Post, Reply, Observation):
                    store.add(source.select(record, record.__name__.lower()))
                # Only the marks that its job moved: a copy of another file's would set that one back.
                for name, value in source.rows(MOVED, {"begun": BEGUN}):
                    store.set_cursor(name, value)
                for reject in source.rows("SELECT source, offset, reason, line FROM reject"):
                    store.reject(*reject)
            store.write_rejects()
            source.discard()
    for left in parts.iterdir():  # the parts' lists of rejects, which the store has now
        left.unlink()
    parts.rmdir()
    return len(found)

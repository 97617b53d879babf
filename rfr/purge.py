"""`mode=purge`: what was deleted on Reddit goes from the store and from every file that was made from it.

Model weights can't be searched: the folders of runs that were trained on erased items have to be judged by their owner.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfr.export import remembered, write
from rfr.fragments import Fragments
from rfr.records import GONE
from rfr.reddit.sources import Source
from rfr.store import Store

if TYPE_CHECKING:
    from rfr.reddit.crawler import Crawler, Report

EVERYTHING = """SELECT 't3_' || id FROM post WHERE id NOT IN (SELECT item_id FROM tombstone WHERE reason = 'text')
    UNION ALL SELECT 't1_' || id FROM reply WHERE id NOT IN (SELECT item_id FROM tombstone WHERE reason = 'text')"""
# The newest reading of an item says whether Reddit still gives it; of two at the same time the one that does.
LEFT_OUT = """SELECT item_id FROM (SELECT item_id, missing, row_number() OVER (
    PARTITION BY item_id ORDER BY ifnull(seen_at, -1) DESC, missing) AS age FROM observation) WHERE age = 1 AND missing"""
NAMED = re.compile(r'"(?:id|author)"\s*:\s*"([^"]*)"')  # in a rejected line
WEIGHTS = {".safetensors", ".pt", ".bin", ".ckpt"}


@dataclass(frozen=True, kw_only=True)
class Purge:
    """Ask Reddit about every item, then erase what is gone; an interrupted purge is finished by the next.

    Args:
        ask: False: erase only what earlier readings showed as deleted (sources that can't be asked).
        data_dir, runs_dir: where files made from the store lie.
    """

    ask: bool
    data_dir: str
    runs_dir: str

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        Store(path).close()  # a store that is not there is told, not made
        with Store(path, write=True) as store:
            if self.ask:
                source.crawl(ask_about_everything, store, report)
            erase(store)
            touched = self._clean_up(store)
            store.forget_residue()
            return {"erased": len(erased_ids(store)), "files": touched, **store.counts(), "digest": store.digest()}

    def _clean_up(self, store: Store) -> list[str]:
        """Remove what the erased texts left behind; the paths of the files that were changed or removed."""
        residue = store.rows("SELECT kind, text FROM residue")
        if not residue:
            return []
        fragments, ids = Fragments(text for kind, text in residue if kind == "text"), erased_ids(store)
        names = ids | {text for kind, text in residue if kind == "author"}
        store.drop_rejects(lambda line: bool(names & set(NAMED.findall(line))) or fragments.within(line))
        touched = [Path(f"{store.path}.rejects.jsonl")]
        store.write_rejects()
        for folder in map(Path, remembered(store)):
            if folder.is_dir():
                write(store, folder)
                touched.append(folder)
        touched += remove_caches(Path(self.data_dir) / "cache", ids)
        touched += remove_from_runs(Path(self.runs_dir), fragments)
        return [str(path) for path in touched]


async def ask_about_everything(crawler: Crawler) -> None:
    """A new reading of every item; what Reddit leaves out is asked for once more, since it does so by mistake too."""
    await crawler.read_again([name for (name,) in crawler.store.rows(EVERYTHING)])
    left_out = {item for (item,) in crawler.store.rows(LEFT_OUT)}
    await crawler.read_again([name for (name,) in crawler.store.rows(EVERYTHING) if name.split("_", 1)[1] in left_out])


def erase(store: Store) -> None:
    """Texts and authors out of the tables, tombstones in; what was erased stays in `residue` until the files are clean."""
    markers = ", ".join(f"'{marker}'" for marker in sorted(GONE))
    left_out = {item for (item,) in store.rows(LEFT_OUT)}
    for table in ("post", "reply"):
        gone = [item for item, marked in store.rows(f"SELECT id, body IN ({markers}) FROM {table}") if marked or item in left_out]
        with store.transaction():
            for item in gone:
                store.erase(table, item)
    with store.transaction():
        for (item,) in store.rows("SELECT DISTINCT item_id FROM residue WHERE kind = 'author'"):
            store.erase_author(item)


def erased_ids(store: Store) -> set[str]:
    return {item for (item,) in store.rows("SELECT item_id FROM tombstone WHERE reason = 'text'")}


def remove_caches(root: Path, ids: set[str]) -> Iterator[Path]:
    """Prepared corpora that hold one of these items; they are made again when they are needed."""
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        if any(_names(pairs, ids) for pairs in folder.rglob("pairs.jsonl")):
            shutil.rmtree(folder)
            yield folder


def _names(pairs: Path, ids: set[str]) -> bool:
    with pairs.open() as lines:
        rows = (json.loads(line) for line in lines)
        return any(row["thread_id"] in ids or row["reply_id"] in ids for row in rows)


def remove_from_runs(root: Path, fragments: Fragments) -> Iterator[Path]:
    """Samples, reports, logs: of JSON lines the ones that quote an erased text go, of other files the whole file."""
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.suffix in WEIGHTS:
            continue
        text = path.read_bytes().decode("utf-8", "ignore")
        if not fragments.within(text):
            continue
        if path.suffix == ".jsonl":
            kept = [line for line in text.splitlines(keepends=True) if not fragments.within(line)]
            path.write_text("".join(kept))
        else:
            path.unlink()
        yield path

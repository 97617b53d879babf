"""`mode=purge`: what was deleted on Reddit goes from the store and from every file that was made from it.

Model weights can't be searched: the folders of runs that were trained on erased items have to be judged by their owner.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfr.export import remembered, write
from rfr.fragments import Fragments
from rfr.leftovers import remove_caches, remove_from_runs
from rfr.parts import merge
from rfr.records import GONE, MADE_UP
from rfr.reddit.sources import Source
from rfr.rejects import write_rejects
from rfr.store import Store

if TYPE_CHECKING:
    from rfr.reddit.crawler import Crawler, Report

EVERYTHING = f"""WITH item AS (SELECT id, 't3_' || id AS name FROM post UNION ALL SELECT id, 't1_' || id FROM reply)
    SELECT name FROM item WHERE id NOT LIKE '{MADE_UP}%' AND id NOT IN (SELECT item_id FROM tombstone WHERE reason = 'text')"""
# Left out by every reading since it was last given, and by more than one of these, well apart.
LEFT_OUT = """WITH given AS (SELECT item_id, max(ifnull(seen_at, -1)) AS at FROM observation WHERE NOT missing GROUP BY item_id)
    SELECT observation.item_id FROM observation LEFT JOIN given ON given.item_id = observation.item_id
    WHERE missing AND seen_at > ifnull(given.at, -1)
        AND observation.item_id NOT IN (SELECT item_id FROM tombstone WHERE reason = 'text')
    GROUP BY observation.item_id HAVING max(seen_at) - min(seen_at) >= ?"""
FEW = 10  # items that may be left out whatever their share


@dataclass(frozen=True, kw_only=True)
class Purge:
    """Ask Reddit about every item, then erase what is gone; an interrupted purge is finished by the next.

    Reddit leaves items out by mistake, and all those of a subreddit that went private. So an item that is left out counts as
    deleted only if it was before too, and if not too many are.

    Args:
        ask: False: erase only what earlier readings showed as deleted (sources that can't be asked).
        apart_h: hours between the readings that left an item out.
        most_left_out: share of all items; where more are left out, none of them counts as deleted.
        data_dir, runs_dir: where files made from the store lie.
    """

    ask: bool
    apart_h: float
    most_left_out: float
    data_dir: str
    runs_dir: str

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        Store(path).close()  # a store that is not there is told, not made
        merge(path)  # what an interrupted import left beside it
        with Store(path, write=True) as store:
            before = len(erased_ids(store))
            if self.ask:
                source.crawl(ask_about_everything, store, report)
            left_out = {item for (item,) in store.rows(LEFT_OUT, (3600 * self.apart_h,))}
            believed = self._is_believable(store, left_out)
            erase(store, left_out if believed else set())
            touched = self._clean_up(store)
            store.forget_residue()
            figures = {"newly_erased": len(erased_ids(store)) - before, "erased": len(erased_ids(store)), "files": touched}
            return {**figures, "left_out_kept": 0 if believed else len(left_out), **store.counts(), "digest": store.digest()}

    def _is_believable(self, store: Store, left_out: set[str]) -> bool:
        total = len(store.rows(EVERYTHING))
        if len(left_out) <= max(FEW, self.most_left_out * total):
            return True
        print(
            f"rfr: Reddit leaves out {len(left_out):,} of {total:,} items, as of a subreddit that went private: none of these "
            "was erased. If they are truly deleted, purge again with mode.most_left_out=1",
            file=sys.stderr,
        )
        return False

    def _clean_up(self, store: Store) -> list[str]:
        """Remove what the erased texts left behind; the paths of the files that were changed or removed."""
        with store.transaction():
            store.blank_rejects()  # nobody can ask Reddit about a line that could not be read
        write_rejects(store)
        residue = store.rows("SELECT item_id, kind, text FROM residue")
        if not residue:
            return []
        fragments = Fragments(text for _, kind, text in residue if kind != "author")
        fragments.forget(current_texts(store, {item for item, kind, _ in residue if kind == "edited"}))
        touched = [folder for folder in map(Path, remembered(store)) if folder.is_dir()]
        for folder in touched:
            write(store, folder)
        touched += remove_caches(Path(self.data_dir) / "cache", {item for item, kind, _ in residue if kind != "author"})
        touched += remove_from_runs(Path(self.runs_dir), fragments)
        return [str(path) for path in touched]


async def ask_about_everything(crawler: Crawler) -> None:
    """A new reading of every item. A reading from the future (a wrong clock, a time in other units) would be newer for ever."""
    with crawler.store.transaction():
        crawler.store.pull_back(crawler.clock.time() - 1)
    await crawler.read_again([name for (name,) in crawler.store.rows(EVERYTHING)])


def erase(store: Store, left_out: set[str]) -> None:
    """Texts and authors out of the tables, tombstones in; what was erased stays in `residue` until the files are clean."""
    markers = ", ".join(f"'{marker}'" for marker in sorted(GONE))
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


def current_texts(store: Store, ids: set[str]) -> list[str]:
    """What these items say now, where they still say something."""
    rows = store.rows("SELECT id, title || ' ' || body FROM post UNION ALL SELECT id, body FROM reply")
    return [text for item, text in rows if item in ids]

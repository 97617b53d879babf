"""`mode=purge`: erases what was deleted on Reddit, in the store and in every file made from it.

Model weights can't be searched: their owner has to decide about runs that were trained on erased items.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from rfr.collect.derived_files import caches, readable_files, remove_cache, remove_from
from rfr.collect.export import export_folders, write
from rfr.collect.quotes import QuoteFinder
from rfr.collect.shards import merge
from rfr.collect.sources import Source
from rfr.ranges import Fraction
from rfr.records import NOT_REDDITS, Kind
from rfr.store.rejects import write_rejects
from rfr.store.store import Store

if TYPE_CHECKING:
    from rfr.reddit.crawler import Crawler, Report

ERASED = "(SELECT kind, item_id FROM tombstone WHERE reason = 'text')"
EVERYTHING = f"""WITH item AS (
    SELECT 'post' AS kind, id, 't3_' || id AS name FROM post UNION ALL SELECT 'reply', id, 't1_' || id FROM reply
) SELECT name FROM item WHERE id NOT LIKE '{NOT_REDDITS}%' AND (kind, id) NOT IN {ERASED}"""
# Missing in all readings since it was last seen, at least two of them `apart_h` apart.
LEFT_OUT = f"""WITH given AS (
    SELECT kind, item_id, max(ifnull(seen_at, -1)) AS at FROM observation WHERE NOT missing GROUP BY kind, item_id
)
    SELECT observation.kind, observation.item_id FROM observation
    LEFT JOIN given ON given.kind = observation.kind AND given.item_id = observation.item_id
    WHERE missing AND seen_at > ifnull(given.at, -1) AND (observation.kind, observation.item_id) NOT IN {ERASED}
    GROUP BY observation.kind, observation.item_id HAVING max(seen_at) - min(seen_at) >= ?"""
# Nobody took back the earlier version of a text from a table of one's own.
RESIDUE = f"SELECT kind, item_id, part, text FROM residue WHERE NOT (part = 'edited' AND item_id LIKE '{NOT_REDDITS}%')"
Item = tuple[Kind, str]
FEW_ITEMS = 10  # that may be missing, whatever their share


@dataclass(frozen=True, kw_only=True)
class Purge:
    """Ask Reddit about every item, then erase what is gone; an interrupted purge is finished by the next.

    Reddit leaves out items by mistake, and all items of a subreddit that went private. So an item that is left out counts as
    deleted only if it was left out before, and if not too many are. Where a file can't be cleaned, the purge goes on and says so
    at the end.

    Args:
        ask: False: erase only what earlier readings showed as deleted (sources that can't be asked).
        apart_h: the fewest hours between two readings that left an item out.
        most_left_out: share of all items; where more are left out, none of them counts as deleted.
        data_dir, runs_dir: the folders that hold files made from the store.
    """

    ask: bool
    apart_h: Annotated[float, Ge(0), Le(10**6)]
    most_left_out: Fraction
    data_dir: str
    runs_dir: str

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        """`not_cleaned` of the figures has what went wrong; the next purge tries again."""
        Store(path).close()  # raises where there is no store; opening it for writing would make one
        failures = _Failures()
        failures.during("the parts beside the store", lambda: merge(path))  # of an interrupted import
        with Store(path, write=True) as store:
            before = len(erased_items(store))
            if self.ask:
                source.crawl(ask_about_everything, store, report)
            left_out: set[Item] = {(kind, item) for kind, item in store.rows(LEFT_OUT, (3600 * self.apart_h,))}
            believed = self._is_believable(store, left_out)
            erase(store, left_out if believed else set())
            touched = self._clean_up(store, failures)
            if not failures.messages:  # after a failure the next purge must look for it again
                failures.during("the store's free pages", store.clear_residue)
            erased = len(erased_items(store))
            figures = {"newly_erased": erased - before, "erased": erased, "files": touched}
            figures |= {"left_out_kept": 0 if believed else len(left_out), **store.counts(), "digest": store.digest()}
        return figures | {"not_cleaned": failures.messages}

    def _is_believable(self, store: Store, left_out: set[Item]) -> bool:
        total = len(store.rows(EVERYTHING))
        if len(left_out) <= max(FEW_ITEMS, self.most_left_out * total):
            return True
        print(
            f"rfr: Reddit leaves out {len(left_out):,} of {total:,} items, as of a subreddit that went private: none of these "
            "was erased. If they are truly deleted, purge again with mode.most_left_out=1",
            file=sys.stderr,
        )
        return False

    def _clean_up(self, store: Store, failures: _Failures) -> list[str]:
        """Remove what the erased texts left behind; the paths of the files that were changed or removed."""
        with store.transaction():
            store.blank_rejects()  # nobody can ask Reddit about a line that could not be read
        failures.during("the file of rejects", lambda: write_rejects(store))
        residue = store.rows(RESIDUE)
        if not residue:
            return []
        quotes = QuoteFinder(text for _, _, part, text in residue if part != "author")
        quotes.exclude(current_texts(store, {(kind, item) for kind, item, part, _ in residue if part == "edited"}))
        ids = {item for _, item, part, _ in residue if part != "author"}
        exports = [folder for folder in map(Path, export_folders(store)) if failures.during(str(folder), folder.is_dir)]
        touched = failures.over(exports, lambda folder: _rewritten(store, folder))
        touched += failures.over(caches(Path(self.data_dir) / "cache"), lambda folder: remove_cache(folder, ids))
        touched += failures.over(readable_files(Path(self.runs_dir)), lambda file: remove_from(file, quotes))
        return [str(path) for path in touched]


def _rewritten(store: Store, export: Path) -> bool:
    write(store, export)
    return True


@dataclass(kw_only=True)
class _Failures:
    """The steps that failed while the others were done."""

    messages: list[str] = field(default_factory=list)

    def during(self, what: str, work: Callable[[], Any]) -> Any:
        """Do this work; None where it failed."""
        try:
            return work()
        except Exception as error:
            self.messages.append(f"{what} ({type(error).__name__}: {error})")
            return None

    def over(self, paths: Iterable[Path], work: Callable[[Path], bool]) -> list[Path]:
        """Do this work on each path; those where it returned true."""
        return [path for path in paths if self.during(str(path), lambda: work(path))]  # noqa: B023


async def ask_about_everything(crawler: Crawler) -> None:
    """A new reading of every item. A reading from the future (a wrong clock, a time in other units) would be newer for ever."""
    with crawler.store.transaction():
        crawler.store.clamp_future_reads(crawler.clock.time() - 1)
    await crawler.read_again([name for (name,) in crawler.store.rows(EVERYTHING)])


def erase(store: Store, left_out: set[Item]) -> None:
    """Texts and authors out of the tables, tombstones in; what was erased stays in `residue` until the files are clean."""
    kinds: dict[Kind, str] = {"post": "deleted OR is_gone(body) OR is_gone(title)", "reply": "deleted OR is_gone(body)"}
    for kind, marked in kinds.items():
        gone = [
            item for item, is_marked in store.rows(f"SELECT id, {marked} FROM {kind}") if is_marked or (kind, item) in left_out
        ]
        with store.transaction():
            for item in gone:
                store.erase(kind, item)
    with store.transaction():
        for kind, item in store.rows("SELECT DISTINCT kind, item_id FROM residue WHERE part = 'author'"):
            store.erase_author(kind, item)


def erased_items(store: Store) -> set[Item]:
    return set(store.rows("SELECT kind, item_id FROM tombstone WHERE reason = 'text'"))


def current_texts(store: Store, items: set[Item]) -> list[str]:
    """The texts that these items have now, where they have any."""
    rows = store.rows("SELECT 'post', id, title || ' ' || body FROM post UNION ALL SELECT 'reply', id, body FROM reply")
    return [text for kind, item, text in rows if (kind, item) in items]

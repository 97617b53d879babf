"""`mode=status`: what a store covers, what it lacks, the age of its scores, a histogram of karma."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from rfr.collect.files.dumps import missing_posts
from rfr.collect.modes import Ages, ages_in_seconds
from rfr.collect.sources import say
from rfr.reddit.backlog import changed_threads, due, orphaned_posts
from rfr.store.store import Store
from rfr.utils.terminal import print_table

HOUR = 3600.0
# The newest reading of each reply that is not hidden, as `Store.threads` takes it.
NEWEST = """SELECT item_id, score, ifnull(seen_at, -1) AS seen_at FROM (
    SELECT *, row_number() OVER (
        PARTITION BY item_id ORDER BY seen_at DESC, import_number DESC, source DESC, score DESC) AS place
    FROM observation WHERE kind = 'reply' AND NOT hidden AND score IS NOT NULL
) WHERE place = 1"""
AGES = f"""SELECT reply.created_utc, newest.seen_at FROM reply LEFT JOIN ({NEWEST}) newest ON item_id = id"""
KARMA = f"""SELECT score FROM ({NEWEST}) JOIN reply ON id = item_id"""
BAR_CHARACTERS = 40  # of the longest bar


@dataclass(frozen=True, kw_only=True)
class Status:
    """Read the store, tell, change nothing.

    Args:
        ages_h: hours after which scores are to be read again; the rows of the table of ages end at them.
    """

    ages_h: Ages

    def run(self, source: Any, path: Path, report: Any) -> dict[str, Any]:
        ages_s = ages_in_seconds(self.ages_h)
        with Store(path) as store:
            covered = coverage(store, str(source.subreddit), ages_s, source.now())
            figures = {
                name.replace("_", " "): f"{value:,}" if isinstance(value, int) else value for name, value in covered.items()
            }
            print_table([figures], title=str(path), vertical=True)
            if lacking := missing_posts(store):
                say(lacking)
            if gaps := gap_rows(store):
                print_table(gaps, title="gaps: listed once, never seen")
            print_table(bars(ages(store, ages_s), "age of the newest score"), title="replies by the age of their score")
            print_table(bars(karma(store), "karma"), title="replies by karma")
            return covered


def coverage(store: Store, subreddit: str, ages_s: Sequence[float], now: float | None) -> dict[str, Any]:
    """How much there is, and how much is known to be missing. docs/collecting.md says what the names mean.

    Args:
        now: Unix seconds; None where no score is to be read again.
    """
    ((posts, first, last),) = store.rows("SELECT count(*), min(created_utc), max(created_utc) FROM post")
    ((replies,),) = store.rows("SELECT count(*) FROM reply")
    ((readings, newest),) = store.rows("SELECT count(*), max(seen_at) FROM observation")
    ((unread,),) = store.rows("SELECT count(*) FROM post WHERE 'thread/' || id NOT IN (SELECT name FROM cursor)")
    return {
        "posts": posts,
        "from": _day(first),
        "to": _day(last),
        "replies": replies,
        "readings": readings,
        "newest_reading": _day(newest),
        "replies_without_post": store.replies_without_post(),
        "threads_never_read": unread,
        "threads_to_read": len(changed_threads(store, subreddit)),
        "posts_only_named": len(orphaned_posts(store)),
        "scores_due": None if now is None else len(due(store, subreddit, ages_s, now)),
        "left_out_by_reddit": _count(store, "SELECT count(DISTINCT item_id) FROM observation WHERE missing"),
        "gaps": _count(store, "SELECT count(*) FROM gap"),
        "rejects": _count(store, "SELECT count(*) FROM reject"),
        "erased": _count(store, "SELECT count(*) FROM tombstone"),
    }


def gap_rows(store: Store) -> list[dict[str, Any]]:
    rows = store.rows("SELECT listing, after_utc, before_utc, noticed_at FROM gap ORDER BY listing, after_utc")
    return [
        {"listing": listing, "after": _day(after), "before": _day(before), "noticed": _day(noticed)}
        for listing, after, before, noticed in rows
    ]


def ages(store: Store, ages_s: Sequence[float]) -> dict[str, int]:
    """Replies per age of their newest visible score when it was read."""
    edges = [age / HOUR for age in ages_s]
    names = [f"under {edges[0]:g} h", *(f"{low:g} to {high:g} h" for low, high in pairwise(edges)), f"{edges[-1]:g} h and more"]
    counted = dict.fromkeys([*names, "unknown", "no score"], 0)
    for created, seen_at in store.rows(AGES):
        if seen_at is None:
            counted["no score"] += 1
        elif created is None or seen_at < 0:
            counted["unknown"] += 1
        else:
            counted[names[sum(seen_at - created >= HOUR * edge for edge in edges)]] += 1
    return counted


def karma(store: Store) -> dict[str, int]:
    """Replies per power of two of their newest visible score."""
    counted: dict[int, int] = {}
    for (score,) in store.rows(KARMA):
        power = -1 if score < 0 else score.bit_length()
        counted[power] = counted.get(power, 0) + 1
    names = {-1: "below 0", 0: "0", 1: "1"}
    return {
        names.get(power, f"{2 ** (power - 1):,} to {2**power - 1:,}"): counted.get(power, 0)
        for power in range(min(counted, default=0), max(counted, default=0) + 1)
    }


def bars(counted: dict[str, int], name: str) -> list[dict[str, Any]]:
    longest = max(counted.values(), default=0) or 1
    return [
        {name: bucket, "replies": f"{count:,}", "": "█" * round(BAR_CHARACTERS * count / longest)}
        for bucket, count in counted.items()
    ]


def _count(store: Store, query: str) -> int:
    return store.rows(query)[0][0]


def _day(time_utc: float | None) -> str | None:
    return None if time_utc is None else datetime.fromtimestamp(time_utc, UTC).strftime("%Y-%m-%d %H:%M")

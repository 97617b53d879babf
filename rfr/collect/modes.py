"""The modes of `collect.py`: each does one job with a source and a store. `conf/mode/*.yaml` names one."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le, MinLen

from rfr.collect.sources import Source
from rfr.errors import RedditDown, UserError
from rfr.ranges import Count, Hours, Seconds
from rfr.store.store import Store

if TYPE_CHECKING:
    from rfr.reddit.crawler import Crawler, Report
Ages = Annotated[Sequence[Hours], MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class Once:
    """Collect what there is now."""

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        with writing(path) as store:
            return source.collect(store, report) | summary(store)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Collect again and again, and read scores at the given ages, until stopped.

    Args:
        every_s: seconds from the start of one pass to the start of the next.
        threads: the most threads whose replies a pass reads, newest first.
        ages_h: hours after which a score is read again.
        slack_s: seconds that a score may be overdue while its request of a hundred items fills up.
    """

    every_s: Seconds
    threads: Count
    ages_h: Ages
    slack_s: Annotated[float, Ge(0), Le(10**9)]

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        from rfr.reddit.passes import until_stopped, watch

        ages_s = ages_in_seconds(self.ages_h)
        if not self.every_s > 0:
            raise UserError(f"mode.every_s={self.every_s} must be above 0")

        def work(crawler: Crawler) -> Awaitable[None]:
            return until_stopped(watch(crawler, every_s=self.every_s, limit=self.threads, ages_s=ages_s, slack_s=self.slack_s))

        with writing(path) as store:
            source.crawl(work, store, report, for_ever=True)
            return summary(store)


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """Read the scores that are due, and nothing else.

    Args:
        ages_h: hours after which a score is read again.
    """

    ages_h: Ages

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        from rfr.reddit.passes import refresh

        ages_s = ages_in_seconds(self.ages_h)
        with writing(path) as store:
            source.crawl(partial(refresh, ages_s=ages_s), store, report)
            return summary(store)


@dataclass(frozen=True, kw_only=True)
class Backfill:
    """Walk every listing that Reddit offers, and read all threads they name."""

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        from rfr.reddit.passes import backfill

        with writing(path) as store:
            source.crawl(backfill, store, report)
            return summary(store)


@contextmanager
def writing(path: Path) -> Iterator[Store]:
    """The store, open for writing; one that was made for nothing is removed again."""
    existed = path.exists()
    with Store(path, write=True) as store:
        try:
            yield store
        except (UserError, RedditDown):
            if not existed and not any(store.counts().values()) and not store.rows("SELECT 1 FROM reject"):
                store.discard()
            raise


def summary(store: Store) -> dict[str, Any]:
    """The store's counts and its digest."""
    return {**store.counts(), "replies_without_post": store.replies_without_post(), "digest": store.digest()}


def ages_in_seconds(ages_h: Sequence[float]) -> list[float]:
    """
    Raises:
        UserError: `mode.ages_h` is no list of hours.
    """
    try:
        ages_s = sorted(3600 * float(age) for age in ages_h)
    except (TypeError, ValueError):
        ages_s = []
    if not ages_s or not 0 < ages_s[0] <= ages_s[-1] < math.inf:
        raise UserError(f"mode.ages_h={ages_h} must be a list of hours above 0, such as [2, 36]")
    return ages_s

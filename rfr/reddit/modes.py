"""What `collect.py` does with a source and a store: `conf/mode/*.yaml` names one of these. `run` returns figures to tell."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfr.errors import UserError
from rfr.reddit.sources import Source
from rfr.store import Store

if TYPE_CHECKING:
    from rfr.reddit.crawler import Crawler, Report


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
        every_s: from the start of one pass to the next.
        threads: the most to read the replies of per pass, newest first.
        ages_h: hours after which a score is read again.
        slack_s: how long a score that is due may wait for ninety-nine others.
    """

    every_s: float
    threads: int
    ages_h: Sequence[float]
    slack_s: float

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        from rfr.reddit.crawl import until_stopped, watch

        _check_ages(self.ages_h)
        if self.every_s <= 0:
            raise UserError(f"mode.every_s={self.every_s} must be above 0")

        ages_s = _seconds(self.ages_h)

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

    ages_h: Sequence[float]

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        from rfr.reddit.crawl import refresh

        _check_ages(self.ages_h)
        with writing(path) as store:
            source.crawl(partial(refresh, ages_s=_seconds(self.ages_h)), store, report)
            return summary(store)


@dataclass(frozen=True, kw_only=True)
class Backfill:
    """Walk every listing that Reddit offers, and read all threads they name."""

    def run(self, source: Source, path: Path, report: Report) -> dict[str, Any]:
        from rfr.reddit.crawl import backfill

        with writing(path) as store:
            source.crawl(backfill, store, report)
            return summary(store)


@contextmanager
def writing(path: Path) -> Iterator[Store]:
    """The store, open for writing; one that was made for nothing is removed again."""
    with Store(path, write=True) as store:
        fresh = not any(store.counts().values())
        try:
            yield store
        except UserError:
            if fresh and not any(store.counts().values()):
                store.discard()
            raise


def summary(store: Store) -> dict[str, Any]:
    """What the store holds, and its digest."""
    return {**store.counts(), "digest": store.digest()}


def _check_ages(ages_h: Sequence[float]) -> None:
    if not ages_h or min(ages_h) <= 0:
        raise UserError(f"mode.ages_h={list(ages_h)} must be hours above 0, at least one")


def _seconds(hours: Sequence[float]) -> list[float]:
    return [3600 * age for age in hours]

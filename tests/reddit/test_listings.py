"""Polling a listing: back to the last poll's newest item, no further; killed, cut or outrun, nothing is lost unseen."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rfr.errors import RunFailed
from rfr.records import Observation, Post, Thread
from rfr.reddit.clock import FixedClock
from rfr.reddit.crawler import Crawler
from rfr.reddit.listings import poll
from rfr.reddit.pacer import Pacer
from rfr.store.rejects import write_rejects
from rfr.store.store import Store

NAME = "s"


class Listing:
    """Answers `Client.get` for one listing, newest first, as Reddit does: pages of 100, `after`, at most 1,000 items."""

    def __init__(self, count: int) -> None:
        self.items = [_item(i) for i in range(count)]
        self.requests = 0
        self.pacer = Pacer(FixedClock(0))
        self.before_page: Callable[[int], None] = lambda number: None

    def grow(self, count: int) -> None:
        self.items += [_item(len(self.items) + i) for i in range(count)]

    async def get(self, path: str, *, limit: int, after: str) -> Any:
        self.requests += 1
        self.before_page(self.requests)
        newest_first = [item for item in reversed(self.items) if not item["data"].get("gone")][:1000]
        names = [f"t3_{item['data']['id']}" for item in newest_first]
        if after and after not in names:
            return {"data": {"children": [], "after": None}}
        start = names.index(after) + 1 if after else 0
        page = newest_first[start : start + limit]
        return {"data": {"children": page, "after": names[start + limit - 1] if start + limit < len(names) else None}}


def _item(number: int) -> dict[str, Any]:
    data = {"id": f"p{number}", "subreddit": NAME, "title": f"[WP] {number}.", "created_utc": 1000.0 + number, "score": 1}
    return {"kind": "t3", "data": data}


def _poll(listing: Any, store: Store) -> int:
    return asyncio.run(poll(Crawler(client=listing, store=store, subreddit=NAME, clock=FixedClock(9e6)), "new"))


def _gaps(store: Store) -> list[tuple]:
    with sqlite3.connect(store.path) as db:
        return db.execute("SELECT after_utc, before_utc FROM gap").fetchall()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.db", write=True)


def test_a_poll_ends_at_what_the_last_one_saw(store: Store) -> None:
    listing = Listing(250)
    assert _poll(listing, store) == 3
    assert _poll(listing, store) == 1
    listing.grow(120)
    assert _poll(listing, store) == 2
    assert store.counts()["post"] == 370
    assert not _gaps(store)


def test_posts_beyond_the_end_of_a_listing_are_a_gap(store: Store) -> None:
    listing = Listing(50)
    _poll(listing, store)
    listing.grow(1200)
    assert _poll(listing, store) == 10
    assert store.counts()["post"] == 1050
    assert _gaps(store) == [(1049.0, 1250.0)]
    assert _poll(listing, store) == 1
    assert len(_gaps(store)) == 1


@pytest.mark.parametrize("page", [1, 2, 3, 4])
def test_a_poll_that_was_cut_off_goes_on_behind_its_last_page(store: Store, page: int) -> None:
    listing = Listing(30)
    _poll(listing, store)
    listing.grow(350)

    def cut(number: int) -> None:
        if number == 1 + page:
            raise KeyboardInterrupt

    listing.before_page = cut
    with pytest.raises(KeyboardInterrupt):
        _poll(listing, store)
    assert store.counts()["post"] == 30 + 100 * (page - 1)
    listing.before_page = lambda number: None
    listing.grow(20)
    _poll(listing, store)
    _poll(listing, store)  # what came meanwhile is above where the poll went on
    assert store.counts()["post"] == 400
    assert not _gaps(store)


def test_the_item_to_go_on_behind_may_be_deleted(store: Store) -> None:
    listing = Listing(30)
    _poll(listing, store)
    listing.grow(300)

    def delete(number: int) -> None:
        if number == 3:  # the last item of the page before
            listing.items[-100]["data"]["gone"] = True

    listing.before_page = delete
    _poll(listing, store)
    assert store.counts()["post"] == 330
    assert not _gaps(store)


def test_the_newest_item_known_may_be_deleted(store: Store) -> None:
    listing = Listing(30)
    _poll(listing, store)
    listing.items[-1]["data"]["gone"] = True
    listing.grow(150)
    assert _poll(listing, store) == 2
    assert not _gaps(store)


def _cut_after(listing: Listing, pages: int) -> None:
    """The poll is killed when it asks for another page."""
    begun = listing.requests

    def cut(number: int) -> None:
        if number > begun + pages:
            raise KeyboardInterrupt

    listing.before_page = cut


@pytest.mark.parametrize("first", [True, False])
def test_a_poll_that_was_cut_off_and_outrun_leaves_no_gap_unrecorded(store: Store, first: bool) -> None:
    """Its page 1 was kept; when it is started again, the listing reaches back neither to that page nor to the last whole poll."""
    listing = Listing(0 if first else 100)
    if not first:
        _poll(listing, store)
    listing.grow(380)
    _cut_after(listing, 1)
    with pytest.raises(KeyboardInterrupt):
        _poll(listing, store)
    begun, cut_off = 1000.0 + len(listing.items) - 100, 1000.0 + len(listing.items) - 1
    listing.before_page = lambda number: None
    listing.grow(1500)
    _poll(listing, store)
    oldest = 1000.0 + len(listing.items) - 1000
    assert _gaps(store) == ([] if first else [(1099.0, begun)]) + [(cut_off, oldest)]
    listing.grow(5)
    assert _poll(listing, store) == 1
    assert len(_gaps(store)) == (1 if first else 2)


def test_an_old_item_that_stands_too_high_ends_no_poll(store: Store) -> None:
    listing = Listing(100)
    _poll(listing, store)
    listing.grow(250)
    listing.items.append(listing.items.pop(50))
    _poll(listing, store)
    assert store.counts()["post"] == 350
    assert not _gaps(store)


def test_an_after_that_repeats_ends_the_poll(store: Store) -> None:
    class Stuck(Listing):
        async def get(self, path: str, *, limit: int, after: str) -> Any:
            page = await super().get(path, limit=limit, after="")
            page["data"]["after"] = "t3_p1"
            return page

    assert _poll(Stuck(30), store) == 2


ODD: list[Any] = [
    {"created_utc": True}, {"created_utc": "soon"}, {"title": 7}, {"selftext": ["a"]}, {"score": "many"}, {"score": 1.5},
    {"score": 10**30}, {"score": float("inf")}, {"num_comments": {}}, {"author": 3}, {"id": ""}, {"id": ["p"]},
    {"link_flair_text": 0},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_an_item_with_a_field_of_another_type_is_a_reject(store: Store, odd: dict[str, Any]) -> None:
    """And its time, where that makes no sense, doesn't count as the newest item known."""
    listing = Listing(150)
    listing.items[149]["data"] |= odd
    assert _poll(listing, store) == 2
    assert store.counts()["post"] == 149
    ((reason,),) = store.rows("SELECT reason FROM reject")
    assert next(iter(odd)) in reason or "time" in reason


@pytest.mark.parametrize("child", [None, 3, "t3_p1", [], {}, {"kind": "t3"}, {"kind": "t3", "data": None}], ids=str)
def test_a_child_that_is_no_item_is_a_reject(store: Store, child: Any) -> None:
    listing = Listing(3)

    async def get(*_: Any, **__: Any) -> Any:
        return {"data": {"children": [*listing.items, child], "after": None}}

    listing.get = get  # type: ignore[method-assign]
    assert _poll(listing, store) == 1
    assert store.counts()["post"] == 3
    assert len(store.rows("SELECT * FROM reject")) == 1


@pytest.mark.parametrize(
    "answer", [None, [], {"data": None}, {"data": {"children": None}}, {"data": {"children": "ab"}}], ids=str
)
def test_an_answer_that_is_no_listing_is_told(store: Store, answer: Any) -> None:
    listing = Listing(3)

    async def get(*_: Any, **__: Any) -> Any:
        return answer

    listing.get = get  # type: ignore[method-assign]
    with pytest.raises(RunFailed, match="no listing"):
        _poll(listing, store)


def test_an_after_that_is_no_name_is_told(store: Store) -> None:
    listing = Listing(3)

    async def get(*_: Any, **__: Any) -> Any:
        return {"data": {"children": listing.items, "after": ["t3_p1"]}}

    listing.get = get  # type: ignore[method-assign]
    with pytest.raises(RunFailed, match="no item's name"):
        _poll(listing, store)


def test_items_that_make_no_sense_are_kept_as_rejects(store: Store) -> None:
    listing = Listing(3)
    listing.items[0]["kind"] = "t6"
    del listing.items[1]["data"]["title"]
    listing.items[2]["data"]["author"] = None
    _poll(listing, store)
    _poll(listing, store)
    assert store.counts()["post"] == 1
    write_rejects(store)
    assert len(Path(f"{store.path}.rejects.jsonl").read_text().splitlines()) == 2
    (thread,) = store.threads()
    assert isinstance(thread, Thread)
    assert isinstance(thread.post, Post)
    assert isinstance(thread.post_observation, Observation)

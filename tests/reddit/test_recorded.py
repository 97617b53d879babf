"""Real Reddit traffic, recorded by the PRAW project, through the real client: every item is kept, none rejected."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from rfr.demo.loopback import fake_login
from rfr.reddit.client import connect
from rfr.reddit.clock import FastClock
from rfr.reddit.crawler import Crawler
from rfr.reddit.parse import listing_children
from rfr.reddit.passes import crawl_once
from rfr.reddit.threads import reconcile
from rfr.store.store import Store
from tests.helpers.recorded_reddit import RecordedReddit


async def _with_crawler(server: RecordedReddit, store: Store, subreddit: str, work: Any) -> None:
    clock = FastClock(start=1.7e9, speed=1000)
    async with server.serve() as url, connect(clock, **fake_login(url)) as client:
        await work(Crawler(client=client, store=store, subreddit=subreddit, clock=clock))


def _is_listing(path: str) -> bool:
    return path.rsplit("/", 1)[-1] in {"new", "hot", "best", "top", "controversial", "rising", "comments", "search", "info"}


def test_recorded_listings_and_trees_import_with_no_reject(shared_data: Path, tmp_path: Path) -> None:
    server = RecordedReddit(sorted((shared_data / "reddit_api").glob("*.json")))
    listings = [path for path in server.paths if _is_listing(path)]
    trees = [path for path in server.paths if path.startswith("/comments/") and path.count("/") == 2]
    assert len(listings) >= 15
    assert len(trees) >= 5
    items = 0

    async def keep_all(crawler: Crawler) -> None:
        nonlocal items
        for path in (*listings, *trees):
            answer = await crawler.client.get(path.lstrip("/"))
            for page in answer if isinstance(answer, list) else [answer]:
                children = [child for child in listing_children(page) if child["kind"] in ("t1", "t3")]
                items += len(children)
                with crawler.store.transaction():
                    crawler.keep(children, crawler.clock.time())

    with Store(tmp_path / "s.db", write=True) as store:
        asyncio.run(_with_crawler(server, store, "askreddit", keep_all))
        assert store.rows("SELECT source, reason FROM reject") == []
        assert items > 1000
        assert store.counts()["post"] > 500
        assert store.counts()["reply"] > 100


def test_a_pass_over_recorded_traffic(shared_data: Path, tmp_path: Path) -> None:
    """What was not recorded comes back empty, so its threads stay unread; nothing is rejected, nothing is lost."""
    server = RecordedReddit(sorted((shared_data / "reddit_api").glob("TestSubredditListings.*.json")))
    with Store(tmp_path / "s.db", write=True) as store:

        async def poll_only(crawler: Crawler) -> None:
            await crawl_once(crawler, limit=0)

        asyncio.run(_with_crawler(server, store, "askreddit", poll_only))
        assert store.counts()["post"] >= 100
        assert store.counts()["reply"] > 20
        assert store.rows("SELECT * FROM reject") == []


def test_a_recorded_tree_names_replies_that_are_asked_for(shared_data: Path, tmp_path: Path) -> None:
    server = RecordedReddit([shared_data / "reddit_api" / "TestCommentForest.test_replace__all.json"])
    with Store(tmp_path / "s.db", write=True) as store:

        async def read(crawler: Crawler) -> None:
            await reconcile(crawler, "3hahrw")

        asyncio.run(_with_crawler(server, store, "redditdev", read))
        assert store.counts()["reply"] > 50
        assert store.rows("SELECT count(*) FROM observation WHERE missing")[0][0] > 0
        assert any(path.startswith("/api/info") for path in server.requests)


@pytest.mark.parametrize("packed", [False, True])
def test_a_recording_is_played_in_order(tmp_path: Path, packed: bool) -> None:
    def interaction(number: int) -> dict:
        text = json.dumps({"data": {"children": [number]}})
        body = {"base64_string": base64.b64encode(text.encode()).decode()} if packed else {"string": text}
        request = {"method": "GET", "uri": "https://oauth.reddit.com/r/a/new?limit=100"}
        return {"request": request, "response": {"status": {"code": 200}, "body": body}}

    (tmp_path / "c.json").write_text(json.dumps({"interactions": [interaction(1), interaction(2)]}))
    seen = []

    async def read(crawler: Crawler) -> None:
        for _ in range(3):
            seen.extend(listing_children(await crawler.client.get("r/a/new")))
        seen.extend(listing_children(await crawler.client.get("r/b/new")))

    with Store(tmp_path / "s.db", write=True) as store:
        asyncio.run(_with_crawler(RecordedReddit([tmp_path / "c.json"]), store, "a", read))
    assert seen == [1, 2, 2]

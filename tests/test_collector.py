"""The live collector against a misbehaving fake Reddit, over real HTTP with the real asyncpraw."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from rfr.errors import UserError
from rfr.reddit.client import Client, reddit
from rfr.reddit.crawl import crawl_once
from rfr.reddit.fake import FakeReddit
from rfr.simulate import SUBREDDIT, DemoSubreddit
from rfr.store import Store

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Moody(FakeReddit):
    """Answers some comment-tree requests with the given responses first."""

    def __init__(self, first: list[web.Response]) -> None:
        super().__init__(DemoSubreddit(threads=6))
        self.first, self.trees = first, 0

    async def _tree(self, request: web.Request) -> web.Response:
        self.trees += 1
        return self.first.pop() if self.first else await super()._tree(request)


def _crawl(fake: FakeReddit, store: Store, subreddit: str = SUBREDDIT) -> Client:
    async def run() -> Client:
        async with fake.serve() as url:
            login = {"client_id": "x", "client_secret": "y", "oauth_url": url, "reddit_url": url}
            async with reddit("test", **login) as session:
                client = Client(session, tries=3, backoff_s=0.01)
                await crawl_once(client, store, subreddit)
                return client

    return asyncio.run(run())


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: web.Response(status=429, headers={"retry-after": "0"}),
        lambda: web.Response(status=429),
        lambda: web.Response(status=529),
        lambda: web.Response(text="<html>busy</html>"),
    ],
)
def test_trouble_costs_a_retry_and_no_data(tmp_path: Path, trouble: Callable[[], web.Response]) -> None:
    fake = Moody([trouble()])
    with Store(tmp_path / "s.db", create=True) as store:
        _crawl(fake, store)
        assert fake.trees == 6 + 1
        assert store.counts()["post"] == 6
        assert store.counts()["reply"] == sum(len(thread.replies) for thread in DemoSubreddit(threads=6))


def test_an_error_object_instead_of_a_thread_is_told(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", create=True) as store, pytest.raises(ValueError, match="no thread"):
        _crawl(Moody([web.json_response({"message": "oops", "error": 500})]), store)


def test_an_unknown_subreddit_is_the_users_error(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", create=True) as store, pytest.raises(UserError, match="no readable r/nowhere/new"):
        _crawl(FakeReddit(DemoSubreddit(threads=2)), store, "nowhere")


def test_credentials_travel_encrypted_or_not_at_all() -> None:
    with pytest.raises(UserError, match="neither https nor on this machine"):
        reddit("test", client_id="x", client_secret="CANARY-1", oauth_url="http://example.com", reddit_url="https://example.com")


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("praw_client_id", "praw_client_secret"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="praw_client_id"):
        reddit("test")

"""A fake Reddit on the loopback: enough of the API, in Reddit's own JSON, for the real asyncpraw to collect from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rfr.records import Observation, Post, Reply, Thread

LISTING_CAP = 1000  # Reddit's, for every listing
TREE_CAP = 25  # replies a tree holds before it only names the rest; Reddit's is 500


class FakeReddit:
    """Serves threads over HTTP: /new, comment trees with `more` stubs, /api/info, tokens."""

    def __init__(self, threads: Iterable[Thread]) -> None:
        threads = list(threads)
        self._subreddit = threads[0].post.subreddit
        self._newest_first = sorted(threads, key=lambda t: t.post.created_utc or 0, reverse=True)[:LISTING_CAP]
        self._threads = {thread.post.id: thread for thread in threads}
        self._replies = {reply.id: (reply, thread) for thread in threads for reply in thread.replies}

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on a free loopback port; yields the base URL."""
        app = web.Application()
        app.router.add_post("/api/v1/access_token", self._token)
        app.router.add_get("/r/{subreddit}/new", self._new)
        app.router.add_get("/comments/{id}", self._tree)
        app.router.add_get("/api/info", self._info)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        return web.json_response({"access_token": "demo", "token_type": "bearer", "expires_in": 86400, "scope": "*"})

    async def _new(self, request: web.Request) -> web.Response:
        if request.match_info["subreddit"] != self._subreddit:
            return web.json_response({"message": "Not Found", "error": 404}, status=404)
        limit, after = int(request.query.get("limit", 25)), request.query.get("after", "")
        names = [f"t3_{thread.post.id}" for thread in self._newest_first]
        start = names.index(after) + 1 if after in names else 0
        page = self._newest_first[start : start + limit]
        more = start + limit < len(names)
        return _json(_listing([_post(thread) for thread in page], after=names[start + limit - 1] if more else None))

    async def _tree(self, request: web.Request) -> web.Response:
        thread = self._threads.get(request.match_info["id"])
        if thread is None:
            return web.json_response({"message": "Not Found", "error": 404}, status=404)
        best_first = sorted(thread.replies, key=lambda reply: -(thread.observations[reply.id].score or 0))
        shown, named = best_first[:TREE_CAP], best_first[TREE_CAP:]
        children = [_reply(reply, thread) for reply in shown]
        if named:
            more = {"id": named[0].id, "parent_id": f"t3_{thread.post.id}", "children": [reply.id for reply in named]}
            children.append({"kind": "more", "data": more})
        return _json([_listing([_post(thread)]), _listing(children)])

    async def _info(self, request: web.Request) -> web.Response:
        ids = request.query["id"].split(",")[:100]
        found = [_reply(*self._replies[i[3:]]) for i in ids if i[3:] in self._replies]
        return _json(_listing(found))


def _json(body: Any) -> web.Response:
    headers = {"x-ratelimit-remaining": "100000.0", "x-ratelimit-used": "1", "x-ratelimit-reset": "1"}
    return web.json_response(body, headers=headers)


def _listing(children: list[dict], after: str | None = None) -> dict:
    return {"kind": "Listing", "data": {"after": after, "before": None, "children": children}}


def _post(thread: Thread) -> dict:
    post = thread.post
    fields = {"title": post.title, "selftext": post.body, "link_flair_text": post.flair, "num_comments": len(thread.replies)}
    return {"kind": "t3", "data": {**_common(post, thread.observations[post.id], post.subreddit), **fields}}


def _reply(reply: Reply, thread: Thread) -> dict:
    parent = f"t3_{reply.post_id}"
    fields = {"body": reply.body, "parent_id": parent, "link_id": parent}
    return {"kind": "t1", "data": {**_common(reply, thread.observations[reply.id], thread.post.subreddit), **fields}}


def _common(item: Post | Reply, reading: Observation, subreddit: str) -> dict:
    return {
        "id": item.id, "subreddit": subreddit, "author": item.author or "[deleted]", "created_utc": item.created_utc,
        "score": reading.score, "score_hidden": reading.hidden, "stickied": item.stickied,
        "distinguished": item.distinguished,
    }  # fmt: skip

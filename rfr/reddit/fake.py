"""A fake Reddit on the loopback: enough of the API, in Reddit's own JSON, for the real asyncpraw to collect from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rfr.records import Observation, Post, Reply, Thread
from rfr.reddit.faults import Faults, Handler, RateLimit

LISTING_CAP = 1000  # Reddit's, for every listing
TREE_CAP = 25  # replies a tree holds before it only names the rest; Reddit's is 500


def fake_login(url: str) -> dict[str, Any]:
    """asyncpraw's settings for a fake Reddit at `url`; they win over the environment's."""
    agent = "linux:rfr-demo:0.1 (by /u/rfr)"
    return {"client_id": "demo", "client_secret": "demo", "user_agent": agent, "oauth_url": url, "reddit_url": url}


class FakeReddit:
    """Serves threads over HTTP: /new, comment trees with `more` stubs, /api/info, tokens.

    Args:
        faults: what goes wrong, by path.
        limit: enforced on all but token requests; None: no limit, told as a large one.
    """

    def __init__(self, threads: Iterable[Thread], *, faults: Faults | None = None, limit: RateLimit | None = None) -> None:
        threads = list(threads)
        self._faults, self._limit = faults or Faults({}), limit
        self.requests: list[str] = []  # paths asked for, in order, those met by a fault included
        self._subreddit = threads[0].post.subreddit
        self._newest_first = sorted(threads, key=lambda t: t.post.created_utc or 0, reverse=True)[:LISTING_CAP]
        self._threads = {thread.post.id: thread for thread in threads}
        self._replies = {reply.id: (reply, thread) for thread in threads for reply in thread.replies}

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on a free loopback port; yields the base URL."""
        app = web.Application(middlewares=[self._gate])
        app.router.add_post("/api/v1/access_token", self._token)
        app.router.add_get("/r/{subreddit}/new", self._new)
        app.router.add_get("/r/{subreddit}/comments", self._comments)
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

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(request.path)
        headers = {"x-ratelimit-remaining": "100000.0", "x-ratelimit-used": "1", "x-ratelimit-reset": "1"}
        if self._limit is not None and not request.path.startswith("/api/v1"):
            fits, headers = self._limit.admit()
            if not fits:
                return web.json_response({"message": "Too Many Requests", "error": 429}, status=429, headers=headers)

        async def answer(request: web.Request) -> web.StreamResponse:
            response = await handler(request)
            response.headers.update(headers)
            return response

        fault = self._faults.next_for(request.path)
        return await (fault(request, answer) if fault else answer(request))

    async def _token(self, request: web.Request) -> web.Response:
        return web.json_response({"access_token": "demo", "token_type": "bearer", "expires_in": 86400, "scope": "*"})

    async def _new(self, request: web.Request) -> web.Response:
        return self._page(request, [(f"t3_{thread.post.id}", _post(thread)) for thread in self._newest_first])

    async def _comments(self, request: web.Request) -> web.Response:
        newest = sorted(self._replies.values(), key=lambda found: found[0].created_utc or 0, reverse=True)[:LISTING_CAP]
        return self._page(request, [(f"t1_{reply.id}", _reply(reply, thread)) for reply, thread in newest])

    def _page(self, request: web.Request, listing: list[tuple[str, dict]]) -> web.Response:
        if request.match_info["subreddit"] != self._subreddit:
            return web.json_response({"message": "Not Found", "error": 404}, status=404)
        limit, after = int(request.query.get("limit", 25)), request.query.get("after", "")
        names = [name for name, _ in listing]
        if after and after not in names:
            return web.json_response(_listing([]))
        start = names.index(after) + 1 if after else 0
        more = start + limit < len(names)
        return web.json_response(
            _listing([item for _, item in listing[start : start + limit]], after=names[start + limit - 1] if more else None)
        )

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
        return web.json_response([_listing([_post(thread)]), _listing(children)])

    async def _info(self, request: web.Request) -> web.Response:
        ids = request.query["id"].split(",")[:100]
        found = [_reply(*self._replies[i[3:]]) for i in ids if i[3:] in self._replies]
        return web.json_response(_listing(found))


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

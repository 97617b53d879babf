"""A fake Reddit on the loopback: enough of the API, in Reddit's own JSON, for the real asyncpraw to collect from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rfr.records import Post, Reply, Thread
from rfr.reddit.clock import Clock
from rfr.reddit.faults import Faults, Handler, RateLimit

LISTING_CAP = 1000  # Reddit's, for every listing
SORTS = {"new", "hot", "rising", "top", "controversial"}
PERIODS_S = {"hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400}
TREE_CAP = 25  # replies a tree holds before it only names the rest; Reddit's is 500


def fake_login(url: str) -> dict[str, Any]:
    """asyncpraw's settings for a fake Reddit at `url`; they win over the environment's."""
    agent = "linux:rfr-demo:0.1 (by /u/rfr)"
    return {"client_id": "demo", "client_secret": "demo", "user_agent": agent, "oauth_url": url, "reddit_url": url}


class FakeReddit:
    """Serves threads over HTTP: the listings, comment trees with `more` stubs, /api/info, tokens.

    Args:
        faults: what goes wrong, by path.
        limit: enforced on all but token requests; None: no limit, told as a large one.
        clock: what it says has not been posted yet is not shown; None: all is.
    """

    def __init__(
        self,
        threads: Iterable[Thread],
        *,
        faults: Faults | None = None,
        limit: RateLimit | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._all = list(threads)
        self._faults, self._limit, self._clock = faults or Faults({}), limit, clock
        self.requests: list[str] = []  # paths asked for, in order, those met by a fault included
        self.deleted: set[str] = set()  # ids whose author took them back: no text, no author
        self.left: set[str] = set()  # ids whose author's account is gone: the text stays
        self.absent: set[str] = set()  # ids that Reddit does not give any more
        self._subreddit = self._all[0].post.subreddit

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on a free loopback port; yields the base URL."""
        app = web.Application(middlewares=[self._gate])
        app.router.add_post("/api/v1/access_token", self._token)
        app.router.add_get("/r/{subreddit}/comments", self._comments)
        app.router.add_get("/r/{subreddit}/{sort}", self._posts)
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

    def _threads(self) -> list[Thread]:
        """Those posted by now, newest first."""
        posted = [thread for thread in self._all if self._is_there(thread.post)]
        return sorted(posted, key=lambda thread: thread.post.created_utc or 0, reverse=True)

    def _is_there(self, item: Post | Reply) -> bool:
        early = self._clock is not None and (item.created_utc or 0) > self._clock.time()
        return not early and item.id not in self.absent

    def _replies(self) -> list[tuple[Reply, Thread]]:
        return [(reply, thread) for thread in self._threads() for reply in thread.replies if self._is_there(reply)]

    async def _posts(self, request: web.Request) -> web.Response:
        threads, sort = self._threads(), request.match_info["sort"]
        if sort not in SORTS:
            return _not_found()
        if period := PERIODS_S.get(request.query.get("t", "all")):
            newest = threads[0].post.created_utc or 0 if threads else 0
            threads = [thread for thread in threads if (thread.post.created_utc or 0) > newest - period]
        if sort != "new":
            threads.sort(key=lambda thread: -(thread.observations[thread.post.id].score or 0))
        return self._page(request, [(f"t3_{thread.post.id}", self._post(thread)) for thread in threads[:LISTING_CAP]])

    async def _comments(self, request: web.Request) -> web.Response:
        newest = sorted(self._replies(), key=lambda found: found[0].created_utc or 0, reverse=True)[:LISTING_CAP]
        return self._page(request, [(f"t1_{reply.id}", self._reply(reply, thread)) for reply, thread in newest])

    def _page(self, request: web.Request, listing: list[tuple[str, dict]]) -> web.Response:
        if request.match_info["subreddit"] != self._subreddit:
            return _not_found()
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
        thread = next((thread for thread in self._threads() if thread.post.id == request.match_info["id"]), None)
        if thread is None:
            return _not_found()
        replies = [reply for reply in thread.replies if self._is_there(reply)]
        best_first = sorted(replies, key=lambda reply: -(thread.observations[reply.id].score or 0))
        shown, named = best_first[:TREE_CAP], best_first[TREE_CAP:]
        children = [self._reply(reply, thread) for reply in shown]
        if named:
            more = {"id": named[0].id, "parent_id": f"t3_{thread.post.id}", "children": [reply.id for reply in named]}
            children.append({"kind": "more", "data": more})
        return web.json_response([_listing([self._post(thread)]), _listing(children)])

    async def _info(self, request: web.Request) -> web.Response:
        asked = set(request.query["id"].split(",")[:100])
        found = [self._post(thread) for thread in self._threads() if f"t3_{thread.post.id}" in asked]
        found += [self._reply(reply, thread) for reply, thread in self._replies() if f"t1_{reply.id}" in asked]
        return web.json_response(_listing(found))

    def _post(self, thread: Thread) -> dict:
        post = thread.post
        there = sum(map(self._is_there, thread.replies))
        fields = {"title": post.title, "selftext": post.body, "link_flair_text": post.flair, "num_comments": there}
        return self._thing("t3", post, thread, fields, text="selftext")

    def _reply(self, reply: Reply, thread: Thread) -> dict:
        parent = f"t3_{reply.post_id}"
        return self._thing("t1", reply, thread, {"body": reply.body, "parent_id": parent, "link_id": parent}, text="body")

    def _thing(self, kind: str, item: Post | Reply, thread: Thread, fields: dict, *, text: str) -> dict:
        reading = thread.observations[item.id]
        data = {
            "id": item.id, "subreddit": thread.post.subreddit, "author": item.author or "[deleted]",
            "created_utc": item.created_utc, "score": reading.score, "score_hidden": reading.hidden,
            "archived": reading.archived, "stickied": item.stickied, "distinguished": item.distinguished, **fields,
        }  # fmt: skip
        if item.id in self.deleted:
            data |= {"author": "[deleted]", text: "[deleted]"}
        if item.id in self.left:
            data |= {"author": "[deleted]"}
        return {"kind": kind, "data": data}


def _not_found() -> web.Response:
    return web.json_response({"message": "Not Found", "error": 404}, status=404)


def _listing(children: list[dict], after: str | None = None) -> dict:
    return {"kind": "Listing", "data": {"after": after, "before": None, "children": children}}

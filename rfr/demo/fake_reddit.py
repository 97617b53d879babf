"""Serves the demo subreddit as Reddit's API would, so that the real asyncpraw collects it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from rfr.demo.loopback import LoopbackReddit, listing, not_found
from rfr.records import Observation, Post, Reply, Thread
from rfr.reddit.clock import Clock

LISTING_CAP = 1000  # Reddit's, for every listing
SORTS = {"new", "hot", "rising", "top", "controversial"}
PERIODS_S = {"hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400}
TREE_CAP = 25  # replies a tree holds before it only names the rest; Reddit's is 500


class FakeReddit(LoopbackReddit):
    """Serves threads over HTTP: the listings, comment trees with `more` stubs, /api/info.

    Args:
        clock: items that are posted later than its time are not shown; None: all items are.
        server: faults and rate limit, see `LoopbackReddit`.
    """

    def __init__(self, threads: Iterable[Thread], *, clock: Clock | None = None, **server: Any) -> None:
        super().__init__(**server)
        self._all, self._clock = list(threads), clock
        self.deleted: set[str] = set()  # ids whose author took them back: no text, no author
        self.left: set[str] = set()  # ids whose author's account is gone: the text stays
        self.absent: set[str] = set()  # ids that Reddit does not give any more
        self._subreddit = self._all[0].post.subreddit

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/r/{subreddit}/comments", self._comments)
        router.add_get("/r/{subreddit}/{sort}", self._posts)
        router.add_get("/comments/{id}", self._tree)
        router.add_get("/api/info", self._info)

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
            return not_found()
        if period := PERIODS_S.get(request.query.get("t", "all")):
            newest = threads[0].post.created_utc or 0 if threads else 0
            threads = [thread for thread in threads if (thread.post.created_utc or 0) > newest - period]
        if sort != "new":
            threads.sort(key=lambda thread: -((thread.post_observation and thread.post_observation.score) or 0))
        return self._page(request, [(f"t3_{thread.post.id}", self._post(thread)) for thread in threads[:LISTING_CAP]])

    async def _comments(self, request: web.Request) -> web.Response:
        newest = sorted(self._replies(), key=lambda pair: pair[0].created_utc or 0, reverse=True)[:LISTING_CAP]
        return self._page(request, [(f"t1_{reply.id}", self._reply(reply, thread)) for reply, thread in newest])

    def _page(self, request: web.Request, items: list[tuple[str, dict]]) -> web.Response:
        if request.match_info["subreddit"] != self._subreddit:
            return not_found()
        limit, after = int(request.query.get("limit", 25)), request.query.get("after", "")
        names = [name for name, _ in items]
        if after and after not in names:
            return web.json_response(listing([]))
        start = names.index(after) + 1 if after else 0
        more = start + limit < len(names)
        return web.json_response(
            listing([item for _, item in items[start : start + limit]], after=names[start + limit - 1] if more else None)
        )

    async def _tree(self, request: web.Request) -> web.Response:
        thread = next((thread for thread in self._threads() if thread.post.id == request.match_info["id"]), None)
        if thread is None:
            return not_found()
        replies = [reply for reply in thread.replies if self._is_there(reply)]
        best_first = sorted(replies, key=lambda reply: -(thread.observations[reply.id].score or 0))
        shown, named = best_first[:TREE_CAP], best_first[TREE_CAP:]
        children = [self._reply(reply, thread) for reply in shown]
        if named:
            more = {"id": named[0].id, "parent_id": f"t3_{thread.post.id}", "children": [reply.id for reply in named]}
            children.append({"kind": "more", "data": more})
        return web.json_response([listing([self._post(thread)]), listing(children)])

    async def _info(self, request: web.Request) -> web.Response:
        asked = set(request.query["id"].split(",")[:100])
        items = [self._post(thread) for thread in self._threads() if f"t3_{thread.post.id}" in asked]
        items += [self._reply(reply, thread) for reply, thread in self._replies() if f"t1_{reply.id}" in asked]
        return web.json_response(listing(items))

    def _post(self, thread: Thread) -> dict:
        post = thread.post
        there = sum(map(self._is_there, thread.replies))
        fields = {"title": post.title, "selftext": post.body, "link_flair_text": post.flair, "num_comments": there}
        return self._thing("t3", post, thread.post_observation, thread.post.subreddit, fields, text="selftext")

    def _reply(self, reply: Reply, thread: Thread) -> dict:
        parent = f"t3_{reply.post_id}"
        fields = {"body": reply.body, "parent_id": parent, "link_id": parent}
        return self._thing("t1", reply, thread.observations[reply.id], thread.post.subreddit, fields, text="body")

    def _thing(
        self, kind: str, item: Post | Reply, reading: Observation | None, subreddit: str, fields: dict, *, text: str
    ) -> dict:
        assert reading is not None, "whatever is shown has a score"
        data = {
            "id": item.id,
            "subreddit": subreddit,
            "author": item.author or "[deleted]",
            "created_utc": item.created_utc,
            "score": reading.score,
            "score_hidden": reading.hidden,
            "archived": reading.archived,
            "stickied": item.stickied,
            "distinguished": item.distinguished,
            **fields,
        }
        if item.id in self.deleted:
            data |= {"author": "[deleted]", text: "[deleted]"}
        if item.id in self.left:
            data |= {"author": "[deleted]"}
        return {"kind": kind, "data": data}

"""A server on the loopback that passes for Reddit: tokens, rate limits, faults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rfr.demo.faults import Faults, Handler, RateLimit


def fake_login(url: str) -> dict[str, Any]:
    """asyncpraw's settings for a fake Reddit at `url`; they win over the environment's."""
    agent = "linux:rfr-demo:0.1 (by /u/rfr)"
    return {"client_id": "demo", "client_secret": "demo", "user_agent": agent, "oauth_url": url, "reddit_url": url}


class LoopbackReddit(ABC):
    """
    Args:
        faults: what goes wrong, by path.
        limit: enforced on all but token requests; None: no limit, told as a large one.
    """

    def __init__(self, *, faults: Faults | None = None, limit: RateLimit | None = None) -> None:
        self._faults, self._limit = faults or Faults({}), limit
        self.token = "demo"
        self.requests: list[str] = []  # paths asked for, in order, with the ids; those met by a fault too

    @abstractmethod
    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the GET routes."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on a free loopback port; yields the base URL."""
        app = web.Application(middlewares=[self._gate])
        app.router.add_post("/api/v1/access_token", self._token)
        self.add_routes(app.router)
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
        self.requests.append(request.path + (f"?id={ids}" if (ids := request.query.get("id")) else ""))
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
        return web.json_response({"access_token": self.token, "token_type": "bearer", "expires_in": 86400, "scope": "*"})


def listing(children: list[dict], after: str | None = None) -> dict[str, Any]:
    return {"kind": "Listing", "data": {"after": after, "before": None, "children": children}}


def not_found() -> web.Response:
    return web.json_response({"message": "Not Found", "error": 404}, status=404)

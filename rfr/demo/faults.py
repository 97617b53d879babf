"""The faults that the fake server injects on demand, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from rfr.reddit.clock import Clock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


def answers(status: int = 200, text: str = "", **headers: str) -> Fault:
    """This response instead of the real one; underscores in header names become hyphens."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers={"content-type": "application/json", **named})

    return fault


def hangs(seconds: float) -> Fault:
    """The real response, but so late."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await handler(request)

    return fault


async def resets(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The connection is reset before a byte was sent."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cuts_body(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Half of the body, then a reset."""
    response = await handler(request)
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    half = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(response.body))})
    await half.prepare(request)
    await half.write(response.body[: len(response.body) // 2])
    assert request.transport is not None
    request.transport.abort()
    return half


def sends_headers(**headers: str) -> Fault:
    """The real response under other headers; underscores become hyphens."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return response

    return fault


def edits(change: Callable[[Any], Any]) -> Fault:
    """The real response, its JSON passed through `change`."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return web.json_response(change(json.loads(response.body)))

    return fault


class Faults:
    """Faults by path prefix, in order, each used once; after them the server behaves."""

    def __init__(self, planned: Mapping[str, Iterable[Fault]]) -> None:
        self._planned = {prefix: deque(faults) for prefix, faults in planned.items()}

    @property
    def left(self) -> int:
        """Not yet met: a test that ends with some left has not seen them."""
        return sum(map(len, self._planned.values()))

    def next_for(self, path: str) -> Fault | None:
        for prefix, faults in self._planned.items():
            if path.startswith(prefix) and faults:
                return faults.popleft()
        return None


class RateLimit:
    """Reddit's: `allowed` requests in each window of `window_s`, told in headers, enforced with 429."""

    def __init__(self, clock: Clock, *, allowed: int, window_s: float = 600.0) -> None:
        self._clock, self.allowed, self._window_s = clock, allowed, window_s
        self._ends, self._used = -1.0, 0
        self.served, self.refused = 0, 0

    def admit(self) -> tuple[bool, dict[str, str]]:
        """Whether a request that comes now is served, and the headers of its answer."""
        now = self._clock.monotonic()
        if now >= self._ends:
            self._ends, self._used = now + self._window_s, 0
        fits = self._used < self.allowed
        self._used += fits
        self.served += fits
        self.refused += not fits
        headers = {
            "x-ratelimit-remaining": f"{self.allowed - self._used:.1f}",
            "x-ratelimit-used": str(self._used),
            "x-ratelimit-reset": str(max(0, round(self._ends - now))),
        }
        return fits, headers

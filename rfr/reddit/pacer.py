"""Spreads all requests over what Reddit's rate-limit headers still allow."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from rfr.reddit.clock import Clock

RESERVED_REQUESTS = 2  # requests of a window that are left unused: the token's own, and one that crosses the window's edge


class Pacer:
    """At most `concurrency` requests in flight, each started no sooner than the allowance permits.

    Args:
        per_minute: the pace until Reddit's headers are seen, and where it sends none.
    """

    def __init__(self, clock: Clock, *, per_minute: float = 60.0, concurrency: int = 4) -> None:
        self._clock = clock
        self._gap_s = 60.0 / per_minute
        self._started, self._held_until = -math.inf, -math.inf  # the last request's start, by the monotonic clock
        self._in_flight = 0
        self._order = asyncio.Lock()
        self._room = asyncio.Semaphore(concurrency)
        self.remaining: float | None = None  # of the current window, as Reddit last said

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for this request's turn; leave the block once the answer's headers went to `learn`."""
        async with self._room:
            async with self._order:
                while (wait := max(self._held_until, self._started + self._gap_s) - self._clock.monotonic()) > 0:
                    await self._clock.sleep(wait)  # again, since meanwhile an answer may have changed the pace
                self._started = self._clock.monotonic()
                self._in_flight += 1
            try:
                yield
            finally:
                self._in_flight -= 1

    def learn(self, headers: Mapping[str, str]) -> None:
        """Adjust to `x-ratelimit-remaining` and `-reset`; missing or garbled ones change nothing."""
        remaining, reset = _number(headers, "x-ratelimit-remaining"), _number(headers, "x-ratelimit-reset")
        if remaining is None or reset is None:
            return
        self.remaining = remaining
        # The request that brought the answer is still counted as in flight, but Reddit has counted it already.
        left = remaining - (self._in_flight - 1) - RESERVED_REQUESTS
        if left < 1:
            self.hold(max(1.0, reset))
        else:
            self._gap_s = reset / left

    def hold(self, seconds: float) -> None:
        """Nobody starts a request for so long (a 429's Retry-After)."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(headers[name])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None

"""The clock of collecting: the real one, or a faster one for tests."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """The world's clock. `time` is Unix seconds and may jump; `monotonic` never does and is what waiting goes by."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class FastClock(Clock):
    """Starts at `start` and runs `speed` times as fast as the world's."""

    def __init__(self, *, start: float, speed: float) -> None:
        self._start, self._speed, self._began = start, speed, time.monotonic()

    def time(self) -> float:
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self._speed)


class FixedClock(Clock):
    """Shows one Unix time until it is advanced: what is collected does not depend on the day. Waiting takes no time."""

    def __init__(self, now: float) -> None:
        self._now, self._slept = now, 0.0

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def monotonic(self) -> float:
        return super().monotonic() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += max(0.0, seconds)
        await asyncio.sleep(0)

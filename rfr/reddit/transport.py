"""Sends asyncpraw's requests: paced, timed out, and repeated until there is an answer.

asyncprawcore's own pacing loses requests when tasks share it, its retries leave out timeouts, cut bodies and 429s, it
chokes on a fractional rate-limit header, and its RequestException carries the client secret. So everything below
authentication is done here; asyncprawcore gets whole answers, without rate-limit headers, or none.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from asyncprawcore.requestor import Requestor

from rfr.errors import RedditDown
from rfr.reddit.clock import Clock
from rfr.reddit.pacer import Pacer

TOKEN_PATH = "/api/v1/access_token"
TEMPORARY = {408, 429, *range(500, 600)}
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
PRINTED_WAIT_S = 4.0  # a wait this long, the third of a request, is printed


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole response, as much like aiohttp's as asyncprawcore needs."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def json(self, **_: Any) -> Any:
        return json.loads(self.body)

    async def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Transport(Requestor):
    """Sends requests through the pacer, and again after whatever may pass: 429, 5xx, hangs, broken bodies, HTML.

    Args:
        timeout_s: seconds for one try, by the real clock.
        patience_s: seconds for which a request is repeated; None: for ever.

    Raises (from `request`):
        RedditDown: the request failed for `patience_s`.
    """

    def __init__(self, *, pacer: Pacer, clock: Clock, timeout_s: float, patience_s: float | None, **identity: Any):
        super().__init__(**identity)
        self._pacer, self._clock = pacer, clock
        self._timeout, self._patience_s = aiohttp.ClientTimeout(total=timeout_s), patience_s
        self._token: asyncio.Task[Answer] | None = None
        self.requests = 0
        self._warned = False

    @asynccontextmanager
    async def request(  # type: ignore[override]
        self, method: str, url: str, *, timeout: float | None = None, **options: Any
    ) -> AsyncIterator[Answer]:
        """Yields an answer that is final: a JSON body, or a status that repeating will not change."""
        if not url.endswith(TOKEN_PATH):
            yield await self._final_answer(method, url, options)
            return
        # asyncprawcore lets every task that has no token ask for one: simultaneous requests share the answer.
        if self._token is None or self._token.done():
            self._token = asyncio.create_task(self._final_answer(method, url, options))
        yield await self._token

    async def _final_answer(self, method: str, url: str, options: dict[str, Any]) -> Answer:
        began, backoff_s = self._clock.monotonic(), FIRST_WAIT_S
        while True:
            answer, trouble = await self._try(method, url, options)
            if answer and not trouble:
                self._warned = False
                return replace(answer, headers=_for_asyncprawcore(answer))
            if self._patience_s is not None and self._clock.monotonic() - began > self._patience_s:
                raise RedditDown(
                    f"Reddit did not answer for {self._patience_s:.0f} s ({trouble}): what was collected is kept, try later"
                )
            self._tell_if_long(trouble, backoff_s)
            wait_s = _retry_after(answer.headers, self._clock.time()) if answer else None
            if wait_s is not None:
                self._pacer.hold(wait_s)
            else:
                await self._clock.sleep(backoff_s)
                backoff_s = min(LONGEST_WAIT_S, 2 * backoff_s)

    def _tell_if_long(self, trouble: str, backoff_s: float) -> None:
        """Once, so that people can tell a lost network from a rate limit."""
        if backoff_s >= PRINTED_WAIT_S and not self._warned:
            patience = "until it comes" if self._patience_s is None else f"for {self._patience_s / 60:g} minutes"
            print(f"rfr: no answer from Reddit yet ({trouble}): asking again {patience}", file=sys.stderr, flush=True)
            self._warned = True

    async def _try(self, method: str, url: str, options: dict[str, Any]) -> tuple[Answer | None, str]:
        """The answer, if one came, and why it is not to be kept; the reason is empty for one that is."""
        async with self._pacer.turn():
            try:
                answer = await self._send(method, url, options)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                return None, type(error).__name__  # without its text, which may quote the request
            self._pacer.learn(answer.headers)
        answer = _as_its_body_says(answer)
        return answer, _temporary_trouble(answer)

    async def _send(self, method: str, url: str, options: dict[str, Any]) -> Answer:
        await self._ensure_session()
        assert self._http is not None
        self.requests += 1
        options = {**options, "headers": {**self.headers, **options.get("headers", {})}}
        async with self._http.request(method, url, timeout=self._timeout, **options) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(status=response.status, headers=headers, body=await response.read())


def _for_asyncprawcore(answer: Answer) -> dict[str, str]:
    """Without rate limits, which are the pacer's; and a 401 that gives its reason, without which asyncprawcore fails."""
    kept = {name: value for name, value in answer.headers.items() if not name.startswith(("x-ratelimit", "www-authenticate"))}
    return kept | ({"www-authenticate": 'Bearer error="invalid_token"'} if answer.status == 401 else {})


def _as_its_body_says(answer: Answer) -> Answer:
    """Reddit at times sends its error object, {"message": ..., "error": 503}, with status 200."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        return answer
    code = body.get("error") if isinstance(body, dict) else None
    return replace(answer, status=code) if answer.status == 200 and type(code) is int and 400 <= code < 600 else answer


def _temporary_trouble(answer: Answer) -> str:
    """Why the same request may fare better later; empty for an answer to keep."""
    if answer.status in TEMPORARY:
        return f"status {answer.status}"
    if answer.status >= 300:
        return ""
    try:
        body = json.loads(answer.body)
    except ValueError:
        return "no JSON" if answer.body else "an empty answer"
    return "an empty answer" if body is None else ""


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait: given as a number, or as an HTTP date."""
    value = headers.get("retry-after", "").strip()
    with suppress(ValueError):
        return max(0.0, float(value))
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)

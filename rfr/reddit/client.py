"""asyncpraw for authentication and transport, one pacer for everybody: no request is lost to a rate limit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpraw
from asyncpraw.exceptions import MissingRequiredAttributeException
from asyncprawcore import exceptions as core

from rfr.errors import UserError

TRANSIENT = (core.RequestException, core.ServerError, core.BadJSON, aiohttp.ClientError, TimeoutError, ConnectionError)
# Token requests carry the client secret in the exception; hence every `from None` below.


def reddit(user_agent: str, **settings: Any) -> asyncpraw.Reddit:
    """A read-only session; credentials come from the environment (praw_client_id, ...) or praw.ini, never from Hydra.

    Raises:
        UserError: no credentials, or a URL that is neither https nor loopback.
    """
    for url in (settings.get("oauth_url"), settings.get("reddit_url")):
        if url and not _is_safe(url):
            raise UserError(f"{url} is neither https nor on this machine: credentials would travel in the clear")
    try:
        session = asyncpraw.Reddit(user_agent=user_agent, check_for_updates=False, **settings)
    except MissingRequiredAttributeException:
        raise UserError(
            "no Reddit credentials: set praw_client_id and praw_client_secret in the environment (see README), or try source=demo"
        ) from None
    session.read_only = True
    return session


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in {"127.0.0.1", "localhost", "::1"}


class Client:
    """GETs with retries. One request at a time: asyncpraw's own pacing loses requests when tasks share it.

    Raises (from `get`):
        UserError: the credentials are wrong, or the subreddit is unknown, private or banned.
        RuntimeError: Reddit kept failing after `tries` attempts.
    """

    def __init__(self, session: asyncpraw.Reddit, *, tries: int = 6, backoff_s: float = 1.0) -> None:
        self._session = session
        self._tries = tries
        self._backoff_s = backoff_s
        self._pacer = asyncio.Lock()
        self.requests = 0

    async def get(self, path: str, **params: str | int) -> Any:
        """The parsed JSON of a GET."""
        for attempt in range(self._tries):
            try:
                async with self._pacer:
                    self.requests += 1
                    return await self._session.request(method="GET", path=path, params=params)
            except core.TooManyRequests as error:
                await asyncio.sleep(_retry_after(error.response.headers, self._backoff_s * 2**attempt))
            except (core.ResponseException, core.OAuthException, *TRANSIENT) as error:
                _raise_if_final(error, path)
                await asyncio.sleep(self._backoff_s * 2**attempt)
        raise RuntimeError(f"Reddit did not answer {path} in {self._tries} tries: try again later; nothing was lost")


def _raise_if_final(error: Exception, path: str) -> None:
    if isinstance(error, core.OAuthException | core.InvalidToken) or _status(error) == 401:
        raise UserError("Reddit refuses these credentials: check praw_client_id and praw_client_secret") from None
    if isinstance(error, core.Forbidden | core.NotFound | core.Redirect | core.UnavailableForLegalReasons):
        raise UserError(f"Reddit has no readable {path}: is the subreddit's name right, and is it public?") from None


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status", None)


def _retry_after(headers: Mapping[str, str], default_s: float) -> float:
    value = headers.get("retry-after", "")
    return float(value) if value.isdigit() else default_s

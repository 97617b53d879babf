"""A read-only session with Reddit: asyncpraw logs in, our transport sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpraw
from asyncpraw.exceptions import AsyncPRAWException, MissingRequiredAttributeException
from asyncprawcore import exceptions as core

from rfr.errors import RedditDown, UserError
from rfr.reddit.clock import Clock
from rfr.reddit.credentials import FIRST_STEPS, check_files, check_url, missing_setting
from rfr.reddit.pacer import Pacer
from rfr.reddit.transport import Transport

TIMEOUT_S = 30.0  # for one try
PATIENCE_S = 600.0  # for one request with all its tries
NO_ACCESS = (core.Forbidden, core.NotFound, core.Redirect, core.UnavailableForLegalReasons)


class Unreadable(UserError):
    """Reddit has no such page (`gone`), or none for us: 403, 404, 451, or a redirect to the search page."""

    gone = False


class Client:
    """GETs. Safe to share between tasks: the pacer serves them in turn.

    Raises (from `get`):
        UserError: Reddit refuses the credentials.
        Unreadable: the path does not exist, is private, banned or blocked.
        RedditDown: Reddit kept failing longer than the transport's patience.
    """

    def __init__(self, session: asyncpraw.Reddit, pacer: Pacer) -> None:
        self._session, self.pacer = session, pacer

    @property
    def requests(self) -> int:
        """Sent so far, repeated ones and those for tokens included."""
        transport = self._session.requestor
        assert isinstance(transport, Transport)
        return transport.requests

    async def get(self, path: str, **params: str | int) -> Any:
        """The parsed JSON of a GET."""
        try:
            return await self._session.request(method="GET", path=path, params=params)
        except (RedditDown, core.AsyncPrawcoreException, AsyncPRAWException, ValueError) as error:  # ValueError: no JSON
            failure = _user_facing(error, path)
        # Raised outside the except block: else the exceptions behind it would travel with it, and their frames, which hold the
        # request and, for a token, the client secret.
        raise failure


def _user_facing(error: Exception, path: str) -> Exception:
    """Turn a failure of asyncprawcore's or of the transport's into the error that the user gets."""
    status = getattr(getattr(error, "response", None), "status", None)
    if isinstance(error, RedditDown):
        return RedditDown(str(error))
    if isinstance(error, NO_ACCESS):
        unreadable = Unreadable(
            f"Reddit has no readable {path} ({type(error).__name__}): is the subreddit's name right, and is it public?"
        )
        unreadable.gone = isinstance(error, core.NotFound)
        return unreadable
    if status in (400, 401) or isinstance(error, core.OAuthException | core.InvalidToken):
        return UserError("Reddit refuses these credentials: check praw_client_id and praw_client_secret")
    if status is not None:
        return Unreadable(f"Reddit answers {path} with status {status}")
    return RedditDown(f"the request for {path} failed ({type(error).__name__}): what was collected is kept, try later")


@asynccontextmanager
async def connect(clock: Clock | None = None, *, patience_s: float | None = PATIENCE_S, **login: Any) -> AsyncIterator[Client]:
    """A session; credentials come from the environment (praw_client_id, ...) or praw.ini unless `login` has them.

    Args:
        login: asyncpraw's settings; the fake Reddit gives its own.

    Raises:
        UserError: no credentials, a praw.ini where it must not be, or a URL that is neither https nor loopback.
    """
    clock = clock or Clock()
    pacer = Pacer(clock)
    transport = {"pacer": pacer, "clock": clock, "timeout_s": TIMEOUT_S, "patience_s": patience_s}
    check_files(Path.cwd())
    try:
        session = asyncpraw.Reddit(check_for_updates=False, requestor_class=Transport, requestor_kwargs=transport, **login)
    except MissingRequiredAttributeException as missing:
        raise UserError(f"{FIRST_STEPS} ({missing_setting(str(missing))})") from None
    async with session:
        for url in (session.config.oauth_url, session.config.reddit_url):
            check_url(url)
        session.read_only = True
        yield Client(session, pacer)

"""The errors that rfr raises on purpose, and the exit code of each."""

import csv
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


class UserError(ValueError):
    """The user's input is wrong; the message is one line and says what to do."""


class Interrupted(Exception):
    """The user stopped the run; the message says how to go on. Commands exit with 130 as shells expect."""


class RunFailed(Exception):
    """The command failed, and not through the user's input; `code` is its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class RedditDown(RunFailed):
    """Reddit kept failing; what was collected until then is in the store."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 1)


@contextmanager
def as_user_error(what: str, *kinds: type[Exception], remedy: str = "") -> Iterator[None]:
    """Turn errors of these kinds, which a library raises at the user's input, into the user's.

    Args:
        what: what is wrong; the library's own words follow in brackets, then the remedy.

    Raises:
        UserError: the block raised such an error.
    """
    try:
        yield
    except UserError:
        raise
    except kinds as error:
        reason = " ".join(str(error).split())[:300] or "no reason given"
        raise UserError(f"{what} ({type(error).__name__}: {reason})" + (f": {remedy}" if remedy else "")) from error


def reading(path: Path) -> AbstractContextManager[None]:
    """Turn the error of a reader that can't make sense of a run's file into the user's."""
    unreadable = (ValueError, TypeError, KeyError, csv.Error)
    return as_user_error(f"{path} is damaged", *unreadable, remedy="copy it again, or remove it")


def require_whole(key: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number, or too small a one.

    Raises:
        UserError: naming the key.
    """
    if type(value) is not int or value < least:
        raise UserError(f"{key} must be a whole number, {least} or more, not {value}")

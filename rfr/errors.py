"""The errors that rfr raises on purpose, and the exit code of each."""

from collections.abc import Iterator
from contextlib import contextmanager
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
def reading(path: Path) -> Iterator[None]:
    """Turn the error of a reader that can't make sense of a run's file into the user's.

    Raises:
        UserError: the file is damaged; the message names it.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}): copy it again, or remove it") from error


def require_whole(key: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number, or too small a one.

    Raises:
        UserError: naming the key.
    """
    if type(value) is not int or value < least:
        raise UserError(f"{key} must be a whole number, {least} or more, not {value}")

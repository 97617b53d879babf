"""Functions that tests map over processes. Each process imports this module, so it imports little."""

from __future__ import annotations

import os
import signal
import time


def square(number: int) -> tuple[int, int]:
    """The square, and the process that found it."""
    time.sleep(0.02 * (number % 3))
    return number**2, os.getpid()


def kill_at_twelve(number: int) -> int:
    if number == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse_twelve(number: int) -> int:
    if number == 12:
        raise ValueError("twelve")
    return number

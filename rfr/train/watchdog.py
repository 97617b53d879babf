"""Stops this process when the command that started it is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import MutableMapping

import psutil

STARTED_BY = "RFR_STARTED_BY"  # environment variable: the parent's process id and start time, since ids are used again
LOOK_S, GRACE_S = 0.5, 120.0


def mark_parent(environment: MutableMapping[str, str]) -> None:
    """Processes with this environment are to end when this one does."""
    environment[STARTED_BY] = f"{os.getpid()} {psutil.Process().create_time()}"


def exit_with_parent() -> None:
    """Watch over the process that started this one, through however many others: when it is gone, stop as at a SIGTERM.

    A stop that takes longer than `GRACE_S` is cut short. Where nothing was said, nothing is watched.
    """
    if parent := os.environ.get(STARTED_BY):
        threading.Thread(target=_watch, args=(int(parent.split()[0]), float(parent.split()[1])), daemon=True).start()


def _watch(pid: int, born: float) -> None:
    while _lives(pid, born):
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _lives(pid: int, born: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == born and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

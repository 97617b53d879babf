"""A map over all cores that keeps the order and reads only a few items ahead."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

from more_itertools import peekable

from rfr.errors import RunFailed

Item = TypeVar("Item")
Result = TypeVar("Result")
FEWEST_ITEMS = 8  # starting processes takes as long as working on a few


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], processes: int | None = None) -> Iterator[Result]:
    """`map(function, items)`, in processes of its own where there are more than a few items; None: one per core.

    Raises:
        RunFailed: a process was killed.
    """
    processes = processes or len(os.sched_getaffinity(0))
    waiting = peekable(items)
    if processes == 1 or not waiting or len(waiting[:FEWEST_ITEMS]) < FEWEST_ITEMS:
        yield from map(function, waiting)
        return
    # Spawned, not forked: the process that asks may have threads, and locks that they hold.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        running: deque[Future[Result]] = deque()
        try:
            for item in waiting:
                running.append(pool.submit(function, item))
                if len(running) > 2 * processes:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool:
            raise RunFailed("a process that cleans stories was killed, most likely for want of memory: start again", 1) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def prefetch(function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 2) -> Iterator[Result]:
    """`map(function, items)`, the next few being worked out in threads while one is used: for work that lets go of the GIL."""
    with ThreadPoolExecutor(ahead) as pool:
        coming: deque[Future[Result]] = deque()
        for item in items:
            coming.append(pool.submit(function, item))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _end_with_parent() -> None:
    """Ctrl-C is the parent's to answer; and where it was killed outright, nobody waits for what is worked on here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

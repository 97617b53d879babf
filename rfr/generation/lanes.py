"""Lanes: the same work on several threads, each of which computes with one core.

torch shares each operation out over all cores, and waits for the slowest of them. That is slow where operations are small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")


class Shared(Generic[T]):
    """An iterator that several threads take from."""

    def __init__(self, rest: Iterator[T]) -> None:
        self._rest, self._lock = rest, Lock()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            return next(self._rest)


def in_lanes(lane: Callable[[Callable[[], bool]], Iterator[T]], lanes: int) -> Iterator[T]:
    """Run the lanes and yield what they give, as it comes. An error in a lane is raised here; when this ends, the lanes end.

    Args:
        lane: the work; it is given a function that says whether it should stop.
    """
    if lanes == 1:
        yield from lane(lambda: False)
        return
    threads_before, given, stop = torch.get_num_threads(), SimpleQueue[Any](), Event()
    running = [Thread(target=_run, args=(lane, given, stop), daemon=True) for _ in range(lanes)]
    for thread in running:
        thread.start()
    try:
        ended = 0
        while ended < lanes:
            item = given.get()
            if isinstance(item, BaseException):
                raise item
            if item is _END:
                ended += 1
            else:
                yield item
    finally:
        stop.set()
        for thread in running:
            thread.join()
        torch.set_num_threads(threads_before)  # the number that threads begin with was changed, too


_END = object()


def _run(lane: Callable[[Callable[[], bool]], Iterator[Any]], given: SimpleQueue[Any], stop: Event) -> None:
    torch.set_num_threads(1)  # of this thread
    try:
        for item in lane(stop.is_set):
            given.put(item)
        given.put(_END)
    except BaseException as error:  # it is raised again where the items are taken
        given.put(error)

"""The map over processes: the order of a plain one, little in memory, no process left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rfr.errors import RunFailed
from rfr.utils.parallel import FEWEST_ITEMS, ordered_map, prefetch
from tests.helpers.mapped import kill_at_twelve, refuse_twelve, square

ROOT = Path(__file__).resolve().parent.parent.parent


def test_many_items_are_shared_out_and_come_back_in_order() -> None:
    squares, pids = zip(*ordered_map(square, iter(range(40)), processes=2), strict=True)
    assert list(squares) == [number**2 for number in range(40)]
    assert len(set(pids) - {os.getpid()}) == 2


def test_few_items_are_worked_on_here() -> None:
    assert {pid for _, pid in ordered_map(square, range(FEWEST_ITEMS - 1), processes=2)} == {os.getpid()}
    assert list(ordered_map(square, [], processes=2)) == []


def test_a_long_input_is_not_read_ahead() -> None:
    read: list[int] = []
    items = (read.append(number) or number for number in range(200))  # type: ignore[func-returns-value]
    for number, _ in enumerate(ordered_map(square, items, processes=2)):
        assert len(read) - number <= FEWEST_ITEMS + 5


def test_prefetched_items_keep_their_order_are_not_far_ahead_and_raise_errors() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(threading.get_ident())
        time.sleep(0.01 * (number % 3))
        return refuse_twelve(number)

    taken = []
    with pytest.raises(ValueError, match="twelve"):
        for number in prefetch(work, range(20)):
            taken.append(number)
            assert len(begun) - len(taken) <= 2
    assert taken == list(range(12))
    assert threading.get_ident() not in begun
    assert len(set(begun)) == 2
    assert list(prefetch(work, [])) == []


def test_an_error_is_told_and_a_killed_process_too() -> None:
    with pytest.raises(ValueError, match="twelve"):
        list(ordered_map(refuse_twelve, range(40), processes=2))
    with pytest.raises(RunFailed, match="for want of memory"):
        list(ordered_map(kill_at_twelve, range(40), processes=2))


def test_no_process_outlives_a_killed_parent() -> None:
    code = (
        "from rfr.utils.parallel import ordered_map; from tests.helpers.mapped import square\n"
        "if __name__ == '__main__':\n"
        "    for _, pid in ordered_map(square, range(10**6), processes=2): print(pid, flush=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = {int(parent.stdout.readline()) for _ in range(20)} - {parent.pid}
    assert workers
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") and "Z" not in _state(pid) for pid in workers):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.1)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"

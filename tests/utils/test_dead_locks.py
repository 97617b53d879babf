"""A process that was killed while torch compiled for it does not make every later one wait for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rfr.utils.dead_locks import remove_dead_locks

HOLDS = """
import sys, time
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_only_the_locks_of_the_dead_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = tmp_path / "py311_cpu" / "cpu_adam" / "lock"
    lock.parent.mkdir(parents=True)
    assert remove_dead_locks() == []
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert remove_dead_locks() == []
        assert lock.exists()
    finally:
        holder.kill()
        holder.wait()
    assert lock.exists(), "the dead leave it behind"
    assert remove_dead_locks() == [lock]
    assert os.listdir(lock.parent) == []

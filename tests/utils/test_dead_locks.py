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
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        assert remove_dead_locks() == [], "another user's processes can't be looked into"
    assert remove_dead_locks() == [lock]
    assert os.listdir(lock.parent) == []


def test_locks_are_looked_for_where_torch_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.cpp_extension import get_default_build_root

    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lock = Path(get_default_build_root()) / "py311_cpu" / "cpu_adam" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert remove_dead_locks() == [lock]

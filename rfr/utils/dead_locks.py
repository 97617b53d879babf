"""Removes the locks that killed processes left where torch compiles its extensions."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def remove_dead_locks() -> list[Path]:
    """Locks of this user's that no running process holds. Torch waits for a lock for ever, and without a word.

    Call it before processes start that need extensions. One that is held on another machine, in a home that two share, can't
    be told from a dead one: both machines then compile.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or f"{cache}/torch_extensions")  # as torch looks for it
    locks = {path.resolve() for pattern in ("*/lock", "*/*/lock") for path in root.glob(pattern)}
    own = {path for path in locks if _is_own(path)}  # others' open files can't be seen
    dead = sorted(own - _open_files()) if own else []
    for path in dead:
        path.unlink(missing_ok=True)
    return dead


def _is_own(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid()
    except FileNotFoundError:  # released in the meantime
        return False


def _open_files() -> set[Path]:
    files: set[Path] = set()
    for process in psutil.process_iter():
        try:
            files.update(Path(file.path) for file in process.open_files())
        except psutil.Error:  # it has ended, or is another user's
            continue
    return files

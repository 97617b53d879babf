"""Removes the locks that killed processes left where torch compiles its extensions."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

COMPILED = Path.home() / ".cache" / "torch_extensions"  # where torch does, unless TORCH_EXTENSIONS_DIR says otherwise


def remove_dead_locks() -> list[Path]:
    """Those of no running process of this user's. Torch waits for a lock for ever, and without a word.

    Call it before processes start that need extensions. One that is held on another machine, in a home that two share, can't
    be told from a dead one: both machines then compile.
    """
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or COMPILED)
    locks = {path.resolve() for pattern in ("*/lock", "*/*/lock") for path in root.glob(pattern)}
    dead = sorted(locks - _open_files()) if locks else []
    for path in dead:
        path.unlink(missing_ok=True)
    return dead


def _open_files() -> set[Path]:
    files: set[Path] = set()
    for process in psutil.process_iter():
        try:
            files.update(Path(file.path) for file in process.open_files())
        except psutil.Error:  # it has ended, or is another user's
            continue
    return files

"""A folder per key, complete or absent: built under a lock beside its place, sealed with checksums, renamed into it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

SEAL = "seal.json"


def key_of(*parts: Any) -> str:
    """A short hash of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def cached(root: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The folder `root/key`, made by `build(folder)` where it is not there, or not as it was made. Safe for two processes."""
    folder = root / key
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{key}.lock"):
        if folder.exists() and not is_sealed(folder):
            print(f"{folder} is damaged: made again", flush=True)
            shutil.rmtree(folder)
        if not folder.exists():
            partial = root / f"{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            build(partial)
            (partial / SEAL).write_text(json.dumps(_checksums(partial), indent=2))
            os.replace(partial, folder)
    return folder


def is_sealed(folder: Path) -> bool:
    """Whether it holds what it was sealed with: no file missing, more, shorter or changed.

    This reads every byte, a gigabyte in about a second; training reads them all anyway.
    """
    try:
        return json.loads((folder / SEAL).read_text()) == _checksums(folder)
    except (OSError, ValueError):
        return False


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SEAL)
    return {path.relative_to(folder).as_posix(): _checksum(path) for path in files}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A cache of folders by key, complete or absent: built under a lock, sealed with checksums, then renamed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from rfr.utils.files import new_folder, remove, write_atomically
from rfr.utils.hashing import key_of

SEAL = "seal.json"
YOUNG_S = 2.0


def build_once(root: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The folder `root/key`, made by `build(folder)` where it is not there, or not as it was made. Safe for two processes."""
    folder = root / key
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{key}.lock"):
        if folder.exists() and not is_sealed(folder):
            print(f"{folder} is damaged: made again", flush=True)
            remove(folder)
        if not folder.exists():
            with new_folder(folder) as partial:
                build(partial)
                (partial / SEAL).write_text(json.dumps(_checksums(partial), indent=2))
    return folder


def memoised(root: Path, file: Path, work: Callable[[], str]) -> str:
    """The result of `work()` on a SQLite file, memoised until the file changes."""
    note = root / f"{key_of(str(file.resolve()))}.digest"
    state = _state(file)
    known, _, said = note.read_text("utf-8", "replace").partition(" ") if note.is_file() else ("", "", "")
    if known == key_of(state):
        return said
    said = work()
    # A file that changes twice within a tick of the clock looks the same, so the result for a young file is not stored.
    if state == _state(file) and time.time() - state[1] / 1e9 > YOUNG_S:
        root.mkdir(parents=True, exist_ok=True)
        if note.is_dir():
            remove(note)
        write_atomically(note, f"{key_of(state)} {said}")
    return said


def _state(file: Path) -> list[int]:
    """Size, time of the last change (nobody can set it, unlike that of the last write) and inode of the file, and of its log.

    An empty log says nothing: SQLite makes one whenever the file is opened, and removes it afterwards.
    """
    log = _stat(Path(f"{file}-wal"))
    return [*_stat(file), *(log if log and log[0] else ())]


def _stat(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_size, status.st_ctime_ns, status.st_ino


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

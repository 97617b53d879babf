"""Writes files and folders that are complete or absent, whenever their writer is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file. Two processes may write the same one: the later text stays."""
    with _replacing(path, path.with_name(f"{path.name}.{os.getpid()}.partial")) as partial:
        partial.write_text(text)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end of the block; where the block raises, it is removed.

    One process at a time: the caller holds a lock.
    """
    with _replacing(path, partial_of(path)) as partial:
        yield partial


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which replaces `folder` at the end of the block; where the block raises, it is removed.

    One process at a time: the caller holds a lock.
    """
    with _replacing(folder, partial_of(folder)) as partial:
        partial.mkdir(parents=True)
        yield partial
        remove(folder)


def partial_of(path: Path) -> Path:
    """Where a file or a folder is written until it is complete."""
    return path.with_name(f"{path.name}.partial")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(partial: Path) -> None:
    """Remove what is incomplete. Its files are emptied first: a writer that failed may hold them open, and so their space."""
    with suppress(OSError):  # what stays is removed by the next writer; the error that led here must be seen
        for path in (partial, *partial.rglob("*")):
            if path.is_file() and not path.is_symlink():
                os.truncate(path, 0)
        remove(partial)


@contextmanager
def _replacing(path: Path, partial: Path) -> Iterator[Path]:
    remove(partial)  # of a process that was killed
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        discard(partial)
        raise

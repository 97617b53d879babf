"""The lock of a run folder, which the kernel frees when its holder and the holder's children are gone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from rfr.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of file systems that have none
POLL_S, POLLS = 0.2, 10  # seconds between two looks at a lock; how often its holder's name is looked for


@contextmanager
def run_lock(run_dir: Path) -> Iterator[int]:
    """Hold a run folder; gives the lock's descriptor, which a child process that inherits it holds, too.

    The lock is a file beside the folder, and is removed afterwards; the folder is not touched. Where its holder was
    killed and the processes that it started have not ended yet, this waits for them.

    Raises:
        UserError: another process holds the lock; the message says which, where and since when.
    """
    missing = [folder for folder in run_dir.parents if not folder.exists()]
    path = run_dir.parent / f".{run_dir.name}.lock"
    descriptor = _acquire(path, run_dir)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_this_process()).encode(), 0)
        yield descriptor
    finally:
        path.unlink(missing_ok=True)  # still held: who has opened it meanwhile sees that it lost its name
        os.close(descriptor)
        with suppress(OSError):  # they are not empty any more
            for folder in missing:
                folder.rmdir()


def _acquire(path: Path, run_dir: Path) -> int:
    waiting = False
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_its_name(descriptor, path):
                return descriptor
        except BlockingIOError:
            holder = _named(descriptor)
            if not _was_killed(holder):
                os.close(descriptor)
                who = "process {process} on {host} since {since}".format(**holder) if holder else "another process"
                raise UserError(
                    f"{run_dir} is being trained by {who}: wait for it to end, or set name= to something new"
                ) from None
            if not waiting:
                print(f"{run_dir}: waiting for the processes of one that was killed to end", flush=True)
            waiting = True
            time.sleep(POLL_S)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            print(f"warning: files can't be locked in {path.parent}: make sure that nothing else trains {run_dir}", flush=True)
            return descriptor
        os.close(descriptor)


def _opened(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another process has removed the folder, which it had made and found empty
            continue


def _has_its_name(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, Any]:
    born = psutil.Process().create_time()  # process ids are used again
    return {"host": socket.gethostname(), "process": os.getpid(), "born": born, "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _named(descriptor: int) -> dict[str, Any]:
    """The holder. It writes its name a moment after it has taken the lock, so this looks several times."""
    for _ in range(POLLS):
        if holder := _read(descriptor):
            return holder
        time.sleep(POLL_S)
    return {}


def _read(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _was_killed(holder: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and is gone, so that only its children hold the lock."""
    if holder.get("host") != socket.gethostname():
        return False
    try:
        process = psutil.Process(holder["process"])
        return process.create_time() != holder["born"] or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True

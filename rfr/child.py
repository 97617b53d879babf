"""A training in a process tree of its own: started under a lock, watched, its failure put on record."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rfr import config
from rfr.errors import Interrupted, RunFailed
from rfr.exits import INTERRUPTED, exit_code, in_one_line
from rfr.orphans import end_with_starter, started_by_this
from rfr.outcome import RESULT, forget_failure, record_failure
from rfr.ranks import ranks


def train_in_child(cfg: DictConfig, run_dir: Path, *, at_once: int = 1) -> None:
    """Train, or go on with it, in processes of its own, torch.distributed.run's where there are several ranks.

    Args:
        at_once: how many runs share this machine's cores.

    Raises:
        Interrupted: it was stopped and can be resumed.
        RunFailed: with the child's exit code; why is in the run's folder.
    """
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with _locked(run_dir) as lock:
        if (run_dir / RESULT).exists():
            print(f"{run_dir} was finished by another process", flush=True)
            return
        forget_failure(run_dir)
        code = _run(cfg, run_dir, at_once, lock)
        if (run_dir / RESULT).exists():  # written last: how a process fell over after that says nothing
            code = 0
        if code not in (0, INTERRUPTED):
            record_failure(run_dir, _ended(code))
    if code == INTERRUPTED:
        raise Interrupted(f"interrupted in {run_dir}: start the same command again to go on")
    if code:
        raise RunFailed(f"the run in {run_dir} failed with exit code {code}; its own message stands above", max(1, code))


@contextmanager
def _locked(run_dir: Path) -> Iterator[int]:
    """Only one process trains a run. The descriptor is the child's, too: the lock is held until both are gone."""
    descriptor = os.open(run_dir.parent / f".{run_dir.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process trains {run_dir}: waiting for it", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _run(cfg: DictConfig, run_dir: Path, at_once: int, lock: int) -> int:
    handover = run_dir.parent / f".{run_dir.name}.yaml"
    handover.write_text(OmegaConf.to_yaml(cfg))
    environment, processes = dict(os.environ), cfg.trainer.ranks
    started_by_this(environment)
    if processes * at_once > 1:
        threads = max(1, len(os.sched_getaffinity(0)) // (processes * at_once))
        environment.setdefault("OMP_NUM_THREADS", str(threads))  # or torch.distributed.run makes it 1, and says so
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    arguments = [sys.executable, *several, "-m", "rfr.child", str(handover), str(run_dir)]
    try:
        child = subprocess.Popen(arguments, env=environment, pass_fds=[lock])
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child got it too and is saving its checkpoint
            return child.wait() or INTERRUPTED
    finally:
        handover.unlink(missing_ok=True)


def _ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed, as the system does when memory runs out"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _reason(error: Exception) -> str:
    if isinstance(error, RunFailed | ValueError):
        return in_one_line(error)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _recorded(train: Callable[[], Any], run_dir: Path) -> None:
    try:
        train()
    except Interrupted:
        raise
    except Exception as error:
        record_failure(run_dir, _reason(error))
        raise


def _main() -> None:
    """The child: the config it was handed, the folder to work in."""
    end_with_starter()
    from rfr.run import train

    handover, run_dir = map(Path, sys.argv[1:])
    cfg = config.read(handover)
    code = exit_code(lambda: _recorded(lambda: train(cfg, run_dir), run_dir))
    if code == 0 and ranks().launched:  # loggers too are done, but at the interpreter's end threads of gloo's may abort it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _main()

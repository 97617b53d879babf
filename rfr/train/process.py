"""Trains in a child process tree: watches it and records its failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rfr.config import load_yaml
from rfr.errors import Interrupted, RunFailed, UserError
from rfr.runs.outcome import RESULT, forget_failure, record_failure
from rfr.strategy.ranks import ranks
from rfr.train.watchdog import exit_with_parent, mark_parent
from rfr.utils.dead_locks import remove_dead_locks
from rfr.utils.exits import INTERRUPTED, exit_code, in_one_line

AGAIN = "RFR_AGAIN"  # environment variable: how to go on with a run that is interrupted


def train_in_child(config: Mapping[str, Any], run_dir: Path, lock: int, *, again: str, at_once: int = 1) -> None:
    """Train, or go on with it, in processes of its own, torchrun's where there are several ranks.

    Args:
        config: the run's resolved config.
        lock: the descriptor of the run folder's lock; the processes inherit it.
        again: how to go on with the run where it is interrupted.
        at_once: how many runs share this machine's cores.

    Raises:
        Interrupted: it was stopped and can be resumed.
        RunFailed: with the child's exit code; why is in the run's folder.
    """
    forget_failure(run_dir)
    remove_dead_locks()  # of DeepSpeed's parts, which are compiled on first use
    code = _run(config, run_dir, at_once, lock, again)
    if (run_dir / RESULT).exists():  # result.json is written last, so a crash after it does not matter
        code = 0
    if code not in (0, INTERRUPTED):
        record_failure(run_dir, _ended(code))
    if code == INTERRUPTED:
        raise Interrupted(f"interrupted in {run_dir}: {again}")
    if code:
        raise RunFailed(f"the run in {run_dir} failed with exit code {code}; its own message stands above", max(1, code))


def _run(config: Mapping[str, Any], run_dir: Path, at_once: int, lock: int, again: str) -> int:
    handover = run_dir.parent / f".{run_dir.name}.yaml"
    handover.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    environment, processes = dict(os.environ), int(config["trainer"]["ranks"])
    mark_parent(environment)
    environment[AGAIN] = again
    if processes * at_once > 1:
        threads = max(1, len(os.sched_getaffinity(0)) // (processes * at_once))
        environment.setdefault("OMP_NUM_THREADS", str(threads))  # else torchrun sets it to 1 and prints a warning
    several = ["-m", "rfr.train.launch", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    arguments = [sys.executable, *several, "-m", "rfr.train.process", str(handover), str(run_dir)]
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
    if isinstance(error, RunFailed | UserError):
        return in_one_line(error)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _record_failure(train: Callable[[], Any], run_dir: Path) -> None:
    try:
        train()
    except Interrupted:
        if ranks().rank > 0:  # rank 0 prints the message
            sys.exit(INTERRUPTED)
        raise
    except Exception as error:
        record_failure(run_dir, _reason(error))
        raise


def _main() -> None:
    """The child: the config it was handed, the folder to work in."""
    exit_with_parent()
    handover, run_dir = map(Path, sys.argv[1:])

    def work() -> None:
        from rfr.train.recipe import Recipe  # takes seconds, in which a Ctrl-C may come
        from rfr.train.run import train

        train(Recipe.of(load_yaml(handover)), run_dir, again=os.environ[AGAIN])

    code = exit_code(lambda: _record_failure(work, run_dir))
    if code == 0 and ranks().launched:  # the loggers are done; at the interpreter's end gloo's threads may abort the process
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _main()

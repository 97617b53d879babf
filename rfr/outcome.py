"""How a run ended, as its folder tells: what it found, why it failed, or neither."""

from __future__ import annotations

import json
import os
from pathlib import Path

RESULT, FAILURE = "result.json", "failure.json"
FINISHED, FAILED, INTERRUPTED, NEW = "finished", "failed", "interrupted", "new"


def result_of(run_dir: Path) -> dict | None:
    """What a finished run left behind, None for an unfinished one."""
    path = run_dir / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def record_result(run_dir: Path, result: dict) -> None:
    """The last thing that a run does: from now on it is finished."""
    partial = run_dir / f"{RESULT}.partial"
    partial.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(partial, run_dir / RESULT)


def failure_of(run_dir: Path) -> str | None:
    """Why its last attempt failed, None where it did not."""
    path = run_dir / FAILURE
    return json.loads(path.read_text())["why"] if path.is_file() else None


def state_of(run_dir: Path) -> str:
    """One of the four; a run that is being trained at this moment counts as interrupted."""
    if (run_dir / RESULT).is_file():
        return FINISHED
    if (run_dir / FAILURE).is_file():
        return FAILED
    return INTERRUPTED if run_dir.exists() else NEW


def record_failure(run_dir: Path, why: str) -> None:
    """The first reason that is given stays: what follows from it says less. A run that left no folder leaves no reason."""
    if not run_dir.is_dir():
        return
    try:
        with (run_dir / FAILURE).open("x") as file:
            json.dump({"why": why}, file)
    except FileExistsError:
        pass


def forget_failure(run_dir: Path) -> None:
    """A new attempt begins."""
    (run_dir / FAILURE).unlink(missing_ok=True)

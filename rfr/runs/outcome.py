"""How a run ended: its result, its failure, or neither yet."""

from __future__ import annotations

import json
from pathlib import Path

from rfr.errors import UserError
from rfr.utils.files import write_atomically

RESULT, FAILURE = "result.json", "failure.json"
FINISHED, FAILED, INTERRUPTED, NEW = "finished", "failed", "interrupted", "new"


def result_of(run_dir: Path) -> dict | None:
    """The result of a finished run; None for an unfinished one.

    Raises:
        UserError: the file is damaged.
    """
    return _read(run_dir / RESULT)


def record_result(run_dir: Path, result: dict) -> None:
    """The last thing that a run does: from now on it is finished."""
    write_atomically(run_dir / RESULT, json.dumps(result, indent=2) + "\n")


def failure_of(run_dir: Path) -> str | None:
    """Why its last attempt failed, None where it did not.

    Raises:
        UserError: the file is damaged.
    """
    failure = _read(run_dir / FAILURE)
    return None if failure is None else str(failure.get("why"))


def _read(path: Path) -> dict | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8", "replace"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: remove it, and the run goes on from its last checkpoint")
    return content


def state_of(run_dir: Path) -> str:
    """One of the four; a run that is being trained at this moment counts as interrupted."""
    if (run_dir / RESULT).is_file():
        return FINISHED
    if (run_dir / FAILURE).is_file():
        return FAILED
    return INTERRUPTED if run_dir.exists() else NEW


def record_failure(run_dir: Path, why: str) -> None:
    """The first reason that is given stays: what follows from it says less. A run that left no folder leaves no reason."""
    if run_dir.is_dir() and not (run_dir / FAILURE).exists():
        write_atomically(run_dir / FAILURE, json.dumps({"why": why}) + "\n")


def forget_failure(run_dir: Path) -> None:
    """A new attempt begins."""
    (run_dir / FAILURE).unlink(missing_ok=True)

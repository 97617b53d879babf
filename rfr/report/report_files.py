"""The output folder of an evaluation: checked before the work; a report about something else is never replaced, and none in
silence.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rfr.errors import RunFailed, UserError
from rfr.utils.files import write_atomically

ABOUT = "about"  # in a report's JSON: what it is an evaluation of
HEAD = "head"  # what the page's head says


def report_folder(parent: Path, corpus: str) -> Path:
    """Where a report on a corpus goes if nobody says otherwise."""
    return parent / re.sub(r"[^\w.-]", "_", Path(corpus).name.removesuffix(".db"))


def head(**about: Any) -> dict[str, Any]:
    """What a page is about, with the command and the date."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {**about, "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]), "date": now}


def require_place(folder: Path, report: str, about: Mapping[str, str]) -> None:
    """Look at an output folder before the work.

    Args:
        report: the name of the JSON file that the report will leave there.
        about: the subject of the report.

    Raises:
        UserError: the folder can't be written to, or it holds a report about another subject.
    """
    nearest = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UserError(f"can't write to {folder} ({error.strerror}): give another folder, out=...") from error
    path = folder / report
    before, of_date = _about(path)
    if before is None and path.is_file():
        print(f"{path} does not say what it is about: it will be replaced", flush=True)
    elif before is not None and before != about:
        raise UserError(
            f"{path} is about {_in_words(before)}, not {_in_words(about)}: give another folder, out=..., or move it away"
        )
    elif before is not None:
        print(f"{path} of {of_date or 'an unknown date'} will be replaced; out=... keeps both", flush=True)


def write_report(folder: Path, files: Mapping[str, str]) -> None:
    """The files of a report, each whole.

    Raises:
        RunFailed: a file can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(folder / name, text)
    except OSError as error:
        raise RunFailed(f"can't write to {folder} ({error.strerror}): the results stand above", 1) from error


def _about(path: Path) -> tuple[dict[str, str] | None, str | None]:
    """The subject of a report that is there, and its date."""
    try:
        report = json.loads(path.read_text())
        about, date = report.get(ABOUT), (report.get(HEAD) or {}).get("date")
    except (OSError, ValueError, AttributeError):
        return None, None
    return about if isinstance(about, dict) else None, date


def _in_words(about: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in about.items())

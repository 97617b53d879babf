"""The output folder of an evaluation: checked before the work; another evaluation's report is never replaced."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rfr.errors import RunFailed, UserError
from rfr.utils.files import write_atomically

ABOUT = "about"  # in a report's JSON: what it is an evaluation of


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
    before = _about(path)
    if before is None and path.is_file():
        print(f"{path} does not say what it is about: it will be replaced", flush=True)
    elif before is not None and before != about:
        raise UserError(
            f"{path} is about {_in_words(before)}, not {_in_words(about)}: give another folder, out=..., or move it away"
        )


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


def _about(path: Path) -> dict[str, str] | None:
    try:
        about = json.loads(path.read_text()).get(ABOUT)
    except (OSError, ValueError, AttributeError):
        return None
    return about if isinstance(about, dict) else None


def _in_words(about: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in about.items())

"""Finds the files that a table's path means, their kind, and the name of their store."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from rfr.errors import UserError

COMPRESSED = re.compile(r"\.(?:gz|bz2|xz|zst)$")
KINDS = ("parquet", "jsonl", "ndjson", "csv")
PAIRED = "source"  # ending of a file of prompts, beside which lies a file of stories
OURS = ".rejects.jsonl"  # ending of a file that collecting leaves beside a store


def files_at(path: Path) -> list[Path]:
    """The tables that a path means, in order: a file, all of a folder's, or all that a pattern such as `train-*.parquet` finds.

    Raises:
        UserError: no file matches.
    """
    if path.is_file():
        return [path]
    candidates = (
        sorted(path.iterdir()) if path.is_dir() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    )
    files = [file for file in candidates if file.is_file() and not file.name.endswith(OURS)]
    tables = [file for file in files if kind_of(file) or not path.is_dir()]
    twins = {twin for file in tables if kind_of(file) == PAIRED for twin in twins_of(file)}
    if not tables:
        what = (
            f" (it holds no .parquet, .jsonl or .csv file: {', '.join(file.name for file in candidates[:5])})"
            if candidates
            else ""
        )
        raise UserError(
            f"no table at {path}{what}: set source.path to a .parquet, .jsonl or .csv file, to a folder or a pattern of such, "
            "or to a .wp_source beside its target"
        )
    return [file for file in tables if file not in twins]


def table_name(path: Path) -> str:
    """The name of a table's store: that of its file or folder; for a pattern its fixed part, else its folder's name."""
    if path.is_dir():
        return path.resolve().name
    name = path.name.removesuffix(".rejects.jsonl")
    while kind_of(Path(name)) or COMPRESSED.search(name):
        name = name.rpartition(".")[0]
    name = name if path.is_file() else re.split(r"[*?[]", name)[0].rstrip("-_. ")
    return name or path.resolve().parent.name


def kind_of(path: Path) -> str | None:
    """One of KINDS or PAIRED by the name's ending, that of a compression aside; None: no table."""
    ending = COMPRESSED.sub("", path.name).rsplit(".", 1)[-1]
    return PAIRED if ending.endswith(PAIRED) else ending if ending in KINDS else None


def twins_of(path: Path) -> Sequence[Path]:
    """Where the stories of a file of prompts may lie, compressed or not."""
    head, _, tail = COMPRESSED.sub("", path.name).rpartition(PAIRED)
    name = f"{head}target{tail}"
    ending = path.name[len(COMPRESSED.sub("", path.name)) :]
    endings = dict.fromkeys([ending, "", ".gz", ".bz2", ".xz", ".zst"])
    return [path.with_name(f"{name}{ending}") for ending in endings]

"""Writes the rejects of a store to a file that people can read."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rfr.store.store import Store

REJECTS = "SELECT source, file, columns, offset, part, reason, line FROM reject ORDER BY source, file, columns, offset, part"


def rejects_file(store: Store) -> Path:
    """Where they are to be found."""
    return Path(f"{store.path}.rejects.jsonl")


def write_rejects(store: Store) -> None:
    """All rejects, as JSON lines beside the store; no file where there are none."""
    path = rejects_file(store)
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)  # of a process that was killed
    rejects = store.rows(REJECTS)
    if not rejects:
        path.unlink(missing_ok=True)
        return
    with partial.open("w") as lines:
        for source, file, columns, offset, part, reason, line in rejects:
            shown = {
                "source": source, "file": file or None, "columns": json.loads(columns) if columns else None, "offset": offset,
                "part": part, "reason": reason, "line": line.decode("utf-8", "backslashreplace"),
            }  # fmt: skip
            lines.write(json.dumps(shown) + "\n")
    os.replace(partial, path)

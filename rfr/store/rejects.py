"""Writes the rejects of a store to a file that people can read."""

from __future__ import annotations

import json
from pathlib import Path

from rfr.store.store import Store
from rfr.utils.files import new_file, partial_of, remove

REJECTS = "SELECT source, file, columns, offset, part, reason, line FROM reject ORDER BY source, file, columns, offset, part"


def rejects_file(store: Store) -> Path:
    """Where they are to be found."""
    return Path(f"{store.path}.rejects.jsonl")


def write_rejects(store: Store) -> None:
    """All rejects, as JSON lines beside the store; no file where there are none."""
    path = rejects_file(store)
    rejects = store.rows(REJECTS)
    if not rejects:
        for old in (path, partial_of(path)):  # the partial one of a process that was killed
            remove(old)
        return
    with new_file(path) as partial, partial.open("w") as lines:
        for source, file, columns, offset, part, reason, line in rejects:
            shown = {
                "source": source,
                "file": file or None,
                "columns": json.loads(columns) if columns else None,
                "offset": offset,
                "part": part,
                "reason": reason,
                "line": line.decode("utf-8", "backslashreplace"),
            }
            lines.write(json.dumps(shown) + "\n")

"""What was rejected while collecting, as a file that people can look at."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rfr.store import Store

REJECTS = "SELECT source, offset, reason, line FROM reject ORDER BY source, offset"
FILES = "SELECT name, value FROM cursor WHERE name LIKE 'dump/%'"


def write_rejects(store: Store) -> None:
    """All rejects, as JSON lines beside the store; no file where there are none."""
    path = Path(f"{store.path}.rejects.jsonl")
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)  # of a process that was killed
    rejects = store.rows(REJECTS)
    if not rejects:
        path.unlink(missing_ok=True)
        return
    files = {name.rsplit("/", 1)[1]: json.loads(value).get("file") for name, value in store.rows(FILES)}
    with partial.open("w") as lines:
        for source, offset, reason, line in rejects:
            shown = {"file": files.get(source), "source": source, "offset": offset, "reason": reason, "line": _text(line)}
            lines.write(json.dumps(shown) + "\n")
    os.replace(partial, path)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")

"""The stories that generate.py writes: JSON lines as they come, on standard output or in a file that is gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rfr.errors import UserError


class StoryFile:
    """A line per story; `done` has the prompts and numbers of those that are there already.

    Args:
        path: None: standard output.
        settings: how stories are drawn; they stand in each line.

    Raises:
        UserError: the file holds stories that were drawn with other settings, or something else.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = path, settings
        self.done: set[tuple[str, int]] = set()
        if path is not None and path.exists():
            self._go_on(path)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a story at once, so that no finished one is lost."""
        line = json.dumps({**row, "settings": self._settings})
        if self._path is None:
            print(line, flush=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as lines:
            lines.write(line + "\n")

    def _go_on(self, path: Path) -> None:
        """Take up the whole lines; what was cut off in the middle of a line goes."""
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                self.done.add((str(row["prompt"]), int(row["number"])))
                settings = dict(row["settings"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}, line {number} is no story of generate.py: give another file, out=...") from error
            if settings != self._settings:
                differ = sorted(key for key in {*settings, *self._settings} if settings.get(key) != self._settings.get(key))
                raise UserError(
                    f"{path} holds stories drawn with other settings ({', '.join(differ)}): give another file, out=..."
                )
        if len(whole) < len(data):
            with path.open("r+b") as file:
                file.truncate(len(whole))

"""How long the parts of a benchmark took, over all attempts: one that is stopped and started again goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Minutes:
    """Kept in `minutes.json` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "minutes.json"

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Add what is spent inside to what the part took before."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = self.spent()
            spent[part] = spent.get(part, 0.0) + (time.monotonic() - began) / 60
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(spent))

    def spent(self) -> dict[str, float]:
        """Minutes of each part."""
        return json.loads(self._path.read_text()) if self._path.exists() else {}

"""A command and the most memory that it and its children held together."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

EVERY_S = 0.1


class Watched:
    """A running command, the leader of a process group of its own."""

    def __init__(self, command: list[str], cwd: Path, stdout: int | None = None) -> None:
        self.process = subprocess.Popen(command, cwd=cwd, start_new_session=True, stdout=stdout, text=True)
        self._peak = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while self.process.poll() is None:
            with suppress(psutil.NoSuchProcess):  # it ended between two readings
                tree = psutil.Process(self.process.pid)
                self._peak = max(self._peak, sum(one.memory_info().rss for one in (tree, *tree.children(recursive=True))))
            time.sleep(EVERY_S)

    def wait(self) -> int:
        """Until it ends; its exit code."""
        code = self.process.wait()
        self._thread.join()
        return code

    @property
    def peak_gib(self) -> float:
        return self._peak / 2**30

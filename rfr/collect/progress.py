"""Shows the progress of collecting: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from rfr.utils.console import PipedConsole

QUIET_S = 10.0  # between two lines, where stderr is no terminal


class Progress:
    """Hears reports (`display("threads", 3, 10)`) and tells them, with notes such as the requests that are left."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or PipedConsole()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[notes]}"),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._what, self._waiting, self._printed_at = "", "", time.monotonic()  # the first line comes after QUIET_S

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()
        elif self._waiting:
            print(self._waiting, file=self._console.file, flush=True)

    def __call__(self, what: str, done: int, total: int | None = None, **notes: int | None) -> None:
        """A stage's progress; a new `what` is a new stage."""
        details = ", ".join(f"{name} {value:,}" for name, value in notes.items() if value is not None).replace("_", " ")
        if self._console.is_terminal:
            self._draw(what, done, total, details)
            return
        self._waiting = f"{what} {done:,}" + (f" of {total:,}" if total else "") + (f"; {details}" if details else "")
        if time.monotonic() - self._printed_at >= QUIET_S:
            print(self._waiting, file=self._console.file, flush=True)
            self._waiting, self._printed_at = "", time.monotonic()

    def _draw(self, what: str, done: int, total: int | None, notes: str) -> None:
        if self._task is None or what != self._what:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._what, self._task = what, self._bar.add_task(what, total=total, notes=notes)
        self._bar.update(self._task, completed=done, total=total, notes=notes)

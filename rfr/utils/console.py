"""Rich's console, for readers that may leave (`| head`)."""

from __future__ import annotations

from rich.console import Console


class PipedConsole(Console):
    """Where nobody reads any more (`| head -n 1`), printing ends as any other output does; rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

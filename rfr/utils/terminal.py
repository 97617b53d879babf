"""Prints text and tables to a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich takes a while to import, and not every command prints a table
    from rich.text import Text


def printable(text: str) -> str:
    """The text without characters that could steer the terminal: a message or a table may quote a file or a story."""
    return "".join(c if c.isprintable() else "�" for c in text)


def print_table(rows: SequenceOf[Mapping[str, Any]], *, title: str, vertical: bool = False) -> None:
    """Print rows under their keys; vertical: one line per key. Values are data: no markup, no escapes."""
    from rich.table import Table
    from rich.text import Text

    from rfr.utils.console import PipedConsole

    width = None if sys.stdout.isatty() else 160
    table = Table(title=plain(title), title_justify="left", show_header=not vertical)
    if vertical:
        for name, value in rows[0].items():
            table.add_row(Text(name, style="bold"), plain(value))
    else:
        for name in rows[0]:
            table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
        for row in rows:
            table.add_row(*(plain(value) for value in row.values()))
    PipedConsole(width=width).print(table)


def plain(value: Any) -> Text:
    """A value as text that can't steer the terminal."""
    from rich.text import Text

    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return Text(printable(text))

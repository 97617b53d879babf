"""What every benchmark leaves behind: a table for people, the same figures as JSON and Markdown, and where they were taken."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rfr.strategy.precision import native_precisions
from rfr.utils.terminal import print_table

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number, what it should reach, and in words what it is."""

    name: str
    value: float | None
    target: str
    meaning: str


def record(
    name: str,
    figures: Sequence[Figure],
    packages: Sequence[str],
    about: Mapping[str, str],
    plot: str | None = None,
    tables: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
) -> None:
    """Print the figures; write `bench/results/<name>.json` and `docs/bench-<name>.md`.

    Args:
        plot: what `docs/bench-<name>.svg` shows, where there is one.
        tables: more for the page, by their titles.
    """
    taken = {**machine(), **{package: version(package) for package in packages}, **about}
    rows = [
        {"figure": figure.name, "measured": _shown(figure.value), "target": figure.target, "what it is": figure.meaning}
        for figure in figures
    ]
    target = "bench" if name == "train" else f"bench-{name}"  # `make bench` is the oldest target and keeps its name
    print_table(rows, title=f"make {target}")
    results = ROOT / "bench" / "results" / f"{name}.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({**{figure.name: figure.value for figure in figures}, **taken}, indent=2) + "\n")
    lines = [f"# `make {target}`", "", "Written by that command, in one run; not by hand.", ""]
    lines += [_row(rows[0]), _row(dict.fromkeys(rows[0], "---")), *(_row(row, row.values()) for row in rows)]
    lines += ["", f"![{plot}](bench-{name}.svg)"] if plot else []
    for title, more in (tables or {}).items():
        lines += [
            "",
            f"## {title}",
            "",
            _row(more[0]),
            _row(dict.fromkeys(more[0], "---")),
            *(_row(row, row.values()) for row in more),
        ]
    lines += ["", *(f"- {key}: {value}" for key, value in taken.items())]
    (ROOT / "docs" / f"bench-{name}.md").write_text("\n".join(lines) + "\n")


def require_bf16() -> None:
    """Where bf16 is emulated, its products take hundreds of times as long and tell nothing."""
    if "bf16" not in native_precisions():
        raise SystemExit("this benchmark measures bf16, which this processor does not compute natively")


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _row(keys: Mapping[str, str], values: object = None) -> str:
    cells = keys.values() if "---" in keys.values() else values or keys
    assert hasattr(cells, "__iter__")
    return f"| {' | '.join(cells)} |"


def machine() -> dict[str, str]:
    """Processor, cores, memory and Python."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_gib:.0f} GiB",
        "python": platform.python_version(),
    }

"""Runs side by side: what differs in their configs, what they found, which failed and why."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rfr import config
from rfr.outcome import FINISHED, failure_of, result_of, state_of
from rfr.report.table import print_table

FIGURES = (
    "val/nll_per_token",
    "val/pair_loss",
    "val/pair_accuracy",
    "quality",
    "quality_low",
    "quality_high",
    "ess",
    "tokens_per_second",
)


def compare(folder: Path) -> None:
    """Print the runs of a folder side by side; write `comparison.csv` and `summary.json` beside them."""
    run_dirs = sorted(path.parent for path in folder.glob("*/config.yaml"))
    if not run_dirs:
        return
    rows = compared(run_dirs)
    with (folder / "comparison.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    summary = {
        run_dir.name: {key.split("/")[-1]: value for key, value in (result_of(run_dir) or {}).items()} for run_dir in run_dirs
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    unfinished = any(row["state"] != FINISHED for row in rows)
    print_table([_readable(row, with_state=unfinished) for row in rows], title=f"{folder}: {len(rows)} runs")
    if failed := [{"run": run_dir.name, "failed, because": why} for run_dir in run_dirs if (why := failure_of(run_dir))]:
        print_table(failed, title=f"{len(failed)} failed; the same command tries them again")


def compared(run_dirs: Sequence[Path]) -> list[dict[str, Any]]:
    """A row per run: its name and state, the keys of its config that are not the same for all, its figures.

    Raises:
        UserError: one is no run folder.
    """
    configs = [_flat(config.plain(config.load(run_dir))) for run_dir in run_dirs]
    results = [result_of(run_dir) or {} for run_dir in run_dirs]
    varied = _differing(configs)
    figures = [key for key in FIGURES if any(key in result for result in results)]
    rows = [
        {
            "run": run_dir.name, "state": state_of(run_dir), **dict(_named(key, flat.get(key)) for key in varied),
            **{key: result.get(key) for key in figures},
        } for run_dir, flat, result in zip(run_dirs, configs, results, strict=True)
    ]  # fmt: skip
    names = [_named(key, None)[0] for key in varied]
    return sorted(rows, key=lambda row: [_natural(row[name]) for name in names])


def _natural(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    number = isinstance(value, int | float)
    return (not number, value if number else 0.0, str(value))


def _named(key: str, value: Any) -> tuple[str, Any]:
    """A class stands under its group, by its own name alone."""
    return (key.removesuffix("._target_"), str(value).rsplit(".", 1)[-1]) if key.endswith("._target_") else (key, value)


def _readable(row: dict[str, Any], *, with_state: bool) -> dict[str, Any]:
    """The interval in one column, after the mean it belongs to."""
    left_out = {"quality_low", "quality_high"} | (set() if with_state else {"state"})
    shown = {key: value for key, value in row.items() if key not in left_out}
    if row.get("quality") is not None:
        shown["quality"] = f"{row['quality']:.3f} [{row['quality_low']:.3f}, {row['quality_high']:.3f}]"
    for key in ("tokens_per_second",):
        shown[key] = None if row.get(key) is None else f"{row[key]:,.0f}"
    return {{"quality": "true quality [95 %]", "ess": "ESS/N"}.get(key, key): value for key, value in shown.items()}


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, child in node.items() for k, v in _flat(child, f"{prefix}.{key}" if prefix else str(key)).items()}


def _differing(configs: list[dict[str, Any]]) -> list[str]:
    """The keys in which the runs differ; where a variant is a class, its name says it all."""
    keys = dict.fromkeys(key for flat in configs for key in flat)
    differing = [key for key in keys if len({str(flat.get(key)) for flat in configs}) > 1]
    different = [
        key for key in differing if key.split(".")[0] not in config.NOT_IDENTITY and not key.startswith("model.suggested")
    ]
    different = [key for key in different if key != "objective._target_"]  # its name says more
    classes = [key.removesuffix("._target_") for key in different if key.endswith("._target_")]
    kept = [key for key in different if not any(key.startswith(f"{c}.") and not key.endswith("._target_") for c in classes)]
    return [key for key in kept if not key.endswith("weight._target_")]  # the objective's name says the same

"""What happens around a multirun: a name for the sweep before, the comparison table after."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rfr import config
from rfr.data.cache import key_of
from rfr.jobs import GROUP, result_of
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


class Comparison(Callback):
    """Names the sweep's folder and, at its end, prints and writes the table of its runs."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        # The same sweep started again must find its folder: no clock in the name.
        os.environ[GROUP] = config.group or f"sweep-{key_of(sorted(config.hydra.overrides.task))[:8]}"

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        compare(Path(config.runs_dir) / os.environ[GROUP])


def compare(folder: Path) -> None:
    """Print the runs of a folder side by side; write `comparison.csv` and `summary.json` beside them."""
    run_dirs = sorted(path.parent for path in folder.glob("*/config.yaml"))
    configs = {run_dir.name: _flat(config.plain(config.load(run_dir))) for run_dir in run_dirs}
    results = {run_dir.name: result_of(run_dir) or {} for run_dir in run_dirs}
    varied = _differing(list(configs.values()))
    rows = []
    for name, result in results.items():
        figures = {key: result.get(key) for key in FIGURES if any(key in other for other in results.values())}
        rows.append({"run": name, **dict(_named(key, configs[name].get(key)) for key in varied), **figures})
    if not rows:
        return
    with (folder / "comparison.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    summary = {name: {key.split("/")[-1]: value for key, value in result.items()} for name, result in results.items()}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print_table([_readable(row) for row in rows], title=f"{folder}: {len(rows)} runs")


def _named(key: str, value: Any) -> tuple[str, Any]:
    """A class stands under its group, by its own name alone."""
    return (key.removesuffix("._target_"), str(value).rsplit(".", 1)[-1]) if key.endswith("._target_") else (key, value)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """The interval in one column, after the mean it belongs to."""
    shown = {key: value for key, value in row.items() if key not in ("quality_low", "quality_high")}
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

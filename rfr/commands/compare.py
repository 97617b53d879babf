"""`report=compare`, and the end of every sweep: runs side by side in the terminal and on a page."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfr.errors import UserError
from rfr.report.comparison import Comparison, comparison_page
from rfr.report.report_files import head
from rfr.runs.best import best_groups, metric_of
from rfr.runs.curves import curves, samples
from rfr.runs.folder import load
from rfr.runs.outcome import FINISHED, failure_of, result_of
from rfr.runs.results import ResultTable, collect_results, run_dirs_in
from rfr.utils.terminal import print_table


@dataclass(frozen=True, kw_only=True)
class Compare:
    """The report on finished runs, which needs no model.

    Args:
        runs: folders of runs, or of sweeps.
        out: None: the one folder that is given, else `runs_dir`.
    """

    runs: Sequence[str]
    out: str | None
    runs_dir: str

    def run(self) -> None:
        """Leave `comparison.html`, `comparison.csv` and `summary.json`, print tables and one JSON line.

        Raises:
            UserError: there are no runs in a folder.
        """
        folders = list(map(Path, self.runs))
        if not folders:
            raise UserError("nothing to compare: give folders of runs or sweeps, runs=[runs/lr_schedule]")
        run_dirs = list(dict.fromkeys(run_dir for folder in folders for run_dir in _run_dirs_of(folder)))
        out = Path(self.out) if self.out else folders[0] if len(folders) == 1 else Path(self.runs_dir)
        out.mkdir(parents=True, exist_ok=True)
        page = _write(collect_results(run_dirs), out, title=", ".join(map(str, folders)))
        print(json.dumps({"page": str(page), "runs": len(run_dirs)}))


def compare(folder: Path) -> None:
    """The same of one sweep's folder; nothing where no run has begun."""
    if run_dirs := run_dirs_in(folder):
        page = _write(collect_results(run_dirs), folder, title=str(folder))
        print(f"{len(run_dirs)} runs side by side: {page}", flush=True)


def _run_dirs_of(folder: Path) -> list[Path]:
    if not (run_dirs := run_dirs_in(folder)):
        raise UserError(f"there are no runs in {folder}: give folders of runs or sweeps, runs=[runs/lr_schedule]")
    return run_dirs


def _write(runs: ResultTable, out: Path, *, title: str) -> Path:
    with (out / "comparison.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(runs.rows[0]))
        writer.writeheader()
        writer.writerows(runs.rows)
    results = {row["run"]: result_of(run_dir) or {} for row, run_dir in zip(runs.rows, runs.run_dirs, strict=True)}
    summary = {name: {key.split("/")[-1]: value for key, value in result.items()} for name, result in results.items()}
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _print(runs, title)
    page = out / "comparison.html"
    comparison = Comparison(
        rows=runs.rows,
        varied=runs.varied,
        figures=runs.figures,
        metric=metric_of(runs),
        best=best_groups(runs),
        failures=list(map(failure_of, runs.run_dirs)),
        curves=list(map(curves, runs.run_dirs)),
        samples=samples(runs.run_dirs),
    )
    configs = [load(run_dir) for run_dir in runs.run_dirs]
    corpora = {str(cfg.corpus.get("path") or "the demo, which is simulated") for cfg in configs}
    drawn = {
        f"{cfg.evaluation.stories} stories at temperature {cfg.evaluation.sampling.temperature:g}"
        for cfg in configs
        if cfg.evaluation.stories and "quality" in runs.figures
    }
    about = head(corpus=", ".join(sorted(corpora)), **({"true quality": "; ".join(sorted(drawn))} if drawn else {}))
    if page.exists():
        print(f"{page} is replaced", flush=True)
    page.write_text(comparison_page(title, comparison, about))
    return page


def _print(runs: ResultTable, title: str) -> None:
    unfinished = any(row["state"] != FINISHED for row in runs.rows)
    print_table([_readable(row, with_state=unfinished) for row in runs.rows], title=f"{title}: {len(runs.rows)} runs")
    if seeds := [row for row in best_groups(runs) if row["runs"] > 1]:
        print_table(list(map(_readable_group, seeds)), title="the best of each")
    whys = [(row["run"], failure_of(run_dir)) for row, run_dir in zip(runs.rows, runs.run_dirs, strict=True)]
    failed = [{"run": run, "failed, because": why} for run, why in whys if why]
    if failed:
        print_table(failed, title=f"{len(failed)} failed; the same command tries them again")


def _readable(row: dict[str, Any], *, with_state: bool) -> dict[str, Any]:
    """The interval in one column, after the mean it belongs to."""
    left_out = {"quality_low", "quality_high"} | (set() if with_state else {"state"})
    shown = {key: value for key, value in row.items() if key not in left_out}
    if row.get("quality") is not None:
        interval = "" if row["quality_low"] is None else f" [{row['quality_low']:.3f}, {row['quality_high']:.3f}]"
        shown["quality"] = f"{row['quality']:.3f}{interval}"
    for key in ("tokens_per_second",):
        shown[key] = None if row.get(key) is None else f"{row[key]:,.0f}"
    return {{"quality": "true quality [95 %]", "ess": "ESS/N"}.get(key, key): value for key, value in shown.items()}


def _readable_group(row: dict[str, Any]) -> dict[str, Any]:
    interval = f" [{row['low']:.4g}, {row['high']:.4g}]" if row["low"] is not None else ""
    return {"": row["of"], "with": row["with"], row["metric"]: f"{row['mean']:.4g}{interval}", "runs": str(row["runs"])}

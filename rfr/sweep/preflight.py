"""Checks a sweep before it starts: nothing starts unless every point can."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from omegaconf import DictConfig

from rfr.commands.preview import preview
from rfr.errors import UserError
from rfr.runs.best import METRICS
from rfr.runs.folder import run_folder
from rfr.runs.outcome import FINISHED, INTERRUPTED, NEW, state_of
from rfr.sweep.points import Point, is_grid, points
from rfr.train.checkpoints import latest_intact, step_of
from rfr.train.policy import require_trainable
from rfr.train.recipe import Recipe
from rfr.utils.terminal import print_table


def preflight(master: DictConfig, group: str) -> None:
    """Say what becomes of every point, or refuse all.

    Args:
        master: the config of a multirun, with its `hydra` part.
        group: the sweep's name.

    Raises:
        UserError: a point can't be composed or a value of it is wrong, or two points are one run.
    """
    sweep_points = points(master, group)
    if master.preview:
        preview({point.overrides_text: Recipe.of(point.cfg) for point in sweep_points})
        return
    for point in sweep_points:
        try:
            require_trainable(Recipe.of(point.cfg))
        except UserError as error:
            raise UserError(f"{point.overrides_text}: {error}") from error
    if is_grid(master):
        _require_distinct(sweep_points)
        _print_plan(sweep_points)
    elif str(master.metric) not in METRICS:  # a search would notice only after its first training
        raise UserError(f"metric={master.metric}: a search goes by one of {', '.join(METRICS)}")


def _require_distinct(points: list[Point]) -> None:
    first: dict[Path, Point] = {}
    for point in points:
        other = first.setdefault(run_folder(point.cfg), point)
        if other is not point:
            why = "leave out name=" if point.cfg.name else "they differ in nothing that makes a run another"
            raise UserError(f"{other.overrides_text} and {point.overrides_text} would share a run folder: {why}")


def _print_plan(points: list[Point]) -> None:
    run_dirs = [run_folder(point.cfg) for point in points]
    rows = [
        {"run": run_dir.name, **point.varied, "state": state_of(run_dir), "now": _now(run_dir)}
        for run_dir, point in zip(run_dirs, points, strict=True)
    ]
    counts = ", ".join(f"{count} {state}" for state, count in Counter(row["state"] for row in rows).items())
    print_table(rows, title=f"{run_dirs[0].parent}: {len(rows)} runs, {counts}")


def _now(run_dir: Path) -> str:
    """The action that a run gets now: trained, skipped, resumed or repeated."""
    if (state := state_of(run_dir)) in (FINISHED, NEW):
        return {FINISHED: "skipped", NEW: "trained"}[state]
    checkpoint = latest_intact(run_dir / "checkpoints")
    what = "resumed" if state == INTERRUPTED else "tried again"
    return f"{what} from step {step_of(checkpoint)}" if checkpoint else f"{what} from the start"

"""`preview=true`: draws the learning rate of a run, or of all points of a sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rfr.report.line_plot import lines_page
from rfr.train.recipe import Recipe
from rfr.utils.terminal import print_table

POINTS = 400  # of a curve
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the run, in the table


def preview(runs: Mapping[str, Recipe]) -> None:
    """Print the rates at some moments and leave `schedule.html` beside the runs.

    Args:
        runs: recipes, by the overrides in which they differ.
    """
    curves = {name: rates(recipe) for name, recipe in runs.items()}
    print_table([_moments(name, *curve) for name, curve in curves.items()], title="learning rate")
    (first, *_) = runs.values()
    page = first.runs_dir / "schedule.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(lines_page("Learning rate over the run", "In optimizer steps; nothing has been trained.", curves))
    print(json.dumps({"preview": str(page), "schedules": len(curves)}))


def rates(recipe: Recipe) -> tuple[list[float], list[float]]:
    """Steps, and the rate at each; of a long run every n-th, the last included."""
    schedule, total = recipe.schedule, recipe.trainer.max_steps
    steps = sorted({*range(0, total, max(1, total // POINTS)), total - 1})
    return [float(step) for step in steps], [recipe.learning_rate * schedule(step, total) for step in steps]


def _moments(name: str, steps: list[float], curve: list[float]) -> dict[str, str | float]:
    nearest = {share: min(range(len(steps)), key=lambda index: abs(steps[index] - share * steps[-1])) for share in SHARES}
    return {"": name, **{f"at {share:.0%}": f"{curve[nearest[share]]:.3g}" for share in SHARES}, "highest": f"{max(curve):.3g}"}

"""Ranks the settings of a sweep: runs that differ in their seed alone are pooled, with an interval."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import Any

import numpy as np

from rfr.runs.outcome import FINISHED
from rfr.runs.results import ResultTable
from rfr.utils.intervals import mean_interval

SEED = "seed"
HIGHER_IS_BETTER = {"quality", "val/pair_accuracy"}
METRICS = ("quality", "val/pair_accuracy", "val/nll_per_token", "val/pair_loss")  # runs are ranked by the first that all have


def metric_of(runs: ResultTable) -> str | None:
    """The metric to rank the runs by: the first that all finished runs have; None if there is none."""
    finished = [row for row in runs.rows if row["state"] == FINISHED]
    return next((metric for metric in METRICS if finished and all(row.get(metric) is not None for row in finished)), None)


def best_groups(runs: ResultTable) -> list[dict[str, Any]]:
    """For every value of every varied key, the best settings of the others: mean over seeds, 95 % interval (Student's t).

    Rows of `key`, `of` (key = value), `with` (the other settings), `metric`, `mean`, `low`, `high` (None for one run), `runs`.
    """
    metric = metric_of(runs)
    keys = [key for key in runs.varied if key != SEED]
    if metric is None or not keys:
        return []
    groups: dict[tuple, list[float]] = defaultdict(list)
    for row in runs.rows:
        if row["state"] == FINISHED:
            groups[tuple(str(row[key]) for key in keys)].append(float(row[metric]))
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    ranked = sorted(groups.items(), key=lambda group: sign * fmean(group[1]))
    best: dict[tuple[str, Any], dict[str, Any]] = {}
    for settings, values in ranked:
        for index, key in enumerate(keys):
            others = " ".join(f"{other}={value}" for other, value in zip(keys, settings, strict=True) if other != key)
            low, high = mean_interval(np.array(values), fewest=2)
            best.setdefault(
                (key, settings[index]),
                {
                    "key": key,
                    "of": f"{key}={settings[index]}",
                    "with": others,
                    "metric": metric,
                    "mean": fmean(values),
                    "low": low,
                    "high": high,
                    "runs": len(values),
                },
            )
    return sorted(best.values(), key=lambda row: keys.index(row["key"]))  # stable: the better first within a key

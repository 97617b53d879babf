"""Reads what a run logged: columns of numbers, and the last stories it wrote."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rfr.errors import reading

# How a policy does that learns from its own stories, on prompts that are held out and in what it learns from.
HELD_OUT = tuple(f"held_out/{name}" for name in ("score", "watch", "quality", "kl", "length", "cut_off"))
IN_ROUNDS = tuple(
    f"round/{name}"
    for name in ("score_spread", "truth_correlation", "ess_within_prompts", "entropy_per_token", "distinct_3", "self_bleu",
                 "copied_tokens")
)  # fmt: skip
VALIDATED = ("val/nll_per_token", "val/pair_loss", "val/pair_accuracy")
SHOWN = ("train/loss", *VALIDATED, *HELD_OUT, *IN_ROUNDS, "train/clipped_share", "lr", "grad_norm")
AXES = ("step", "tokens", "seconds")
MOST_ROWS = 1_000  # of more rows, every n-th is kept, the last one, and all with a validation or a round

Columns = dict[str, list[float | None]]


def curves(run_dir: Path) -> Columns:
    """Columns of `metrics.csv`, None where a row has no such number; without those that the run never logged.

    Raises:
        UserError: the file is damaged.
    """
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return {}
    with reading(path), path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
        _add_seconds(rows)
        every = max(1, -(-len(rows) // MOST_ROWS))
        kept = {*range(0, len(rows), every), len(rows) - 1}
        rare = (*VALIDATED, *HELD_OUT, *IN_ROUNDS)
        rows = [row for index, row in enumerate(rows) if index in kept or any(row.get(name) for name in rare)]
        columns: Columns = {name: [_number(row.get(name)) for row in rows] for name in (*AXES, *SHOWN)}
    return {name: column for name, column in columns.items() if any(value is not None for value in column)}


def _add_seconds(rows: Sequence[dict[str, Any]]) -> None:
    total = 0.0
    for row in rows:
        total += _number(row.get("step_seconds")) or 0.0
        row["seconds"] = total


def _number(text: str | float | None) -> float | None:
    """Six digits will do for a plot; what is not finite can't be drawn, nor be JSON."""
    if text is None or text == "" or not math.isfinite(value := float(text)):
        return None
    return float(f"{value:.6g}")


def samples(run_dirs: Sequence[Path]) -> list[dict[str, Any]]:
    """By prompt, the last story that each run wrote: `prompt` and `stories` of `run` (its index), `step` and `text`.

    Raises:
        UserError: a file of samples is damaged.
    """
    by_prompt: dict[str, dict[int, dict[str, Any]]] = {}
    for index, run_dir in enumerate(run_dirs):
        path = run_dir / "samples.jsonl"
        with reading(path):
            for line in path.read_text().splitlines() if path.is_file() else []:
                if (row := _json(line)) is not None:
                    story = {"run": index, "step": row["step"], "text": row["response"]}
                    by_prompt.setdefault(row["prompt"], {})[index] = story
    return [{"prompt": prompt, "stories": list(stories.values())} for prompt, stories in by_prompt.items()]


def _json(line: str) -> dict[str, Any] | None:
    """A run that was killed may have left half a line."""
    try:
        record: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record

"""Runs as rows of a table: the keys in which they differ, and their figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfr.config import plain
from rfr.runs.folder import CONFIG, NOT_HASHED, load
from rfr.runs.outcome import result_of, state_of

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


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """Rows of `run`, `state`, the varied keys and the figures, in the order of the varied keys; and their folders."""

    rows: list[dict[str, Any]]
    run_dirs: list[Path]
    varied: list[str]
    figures: list[str]


def run_dirs_in(folder: Path) -> list[Path]:
    """The run folders there, or the folder itself where it is one."""
    return [folder] if (folder / CONFIG).is_file() else sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))


def collect_results(run_dirs: Sequence[Path]) -> ResultTable:
    """The runs as a table: the keys in which they differ, and their figures.

    Raises:
        UserError: a folder is no run folder.
    """
    loaded = [plain(load(run_dir)) for run_dir in run_dirs]
    configs = [_flat(cfg) for cfg in loaded]
    results = [result_of(run_dir) or {} for run_dir in run_dirs]
    derived = set.intersection(*(set(cfg.get("derived") or ()) for cfg in loaded))
    varied = _differing(configs, derived)
    figures = [key for key in FIGURES if any(key in result for result in results)]
    names = [_named(key, None)[0] for key in varied]
    rows = [
        {
            "run": name,
            "state": state_of(run_dir),
            **dict(_named(key, flat.get(key)) for key in varied),
            **{key: result.get(key) for key in figures},
        }
        for run_dir, name, flat, result in zip(run_dirs, _names(run_dirs), configs, results, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda index: [_natural(rows[index][name]) for name in names])
    return ResultTable(
        rows=[rows[index] for index in order], run_dirs=[run_dirs[index] for index in order], varied=names, figures=figures
    )


def _names(run_dirs: Sequence[Path]) -> list[str]:
    """Those of the folders; where two sweeps hold one run, with the sweep's before it."""
    count = Counter(run_dir.name for run_dir in run_dirs)
    return [
        run_dir.name if count[run_dir.name] == 1 else f"{run_dir.resolve().parent.name}/{run_dir.name}" for run_dir in run_dirs
    ]


def _natural(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    number = isinstance(value, int | float)
    return (not number, value if number else 0.0, str(value))


def _named(key: str, value: Any) -> tuple[str, Any]:
    """A class stands under its group, by its own name alone."""
    return (key.removesuffix("._target_"), str(value).rsplit(".", 1)[-1]) if key.endswith("._target_") else (key, value)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, child in node.items() for k, v in _flat(child, f"{prefix}.{key}" if prefix else str(key)).items()}


def _differing(configs: list[dict[str, Any]], derived: set[str]) -> list[str]:
    """The keys in which the runs differ by themselves; where a variant is a class, its name says it all.

    Args:
        derived: keys, or sections, whose values follow others' in all runs.
    """
    keys = [key for key in dict.fromkeys(key for flat in configs for key in flat) if not _follows(key, derived)]
    differing = [key for key in keys if len({str(flat.get(key)) for flat in configs}) > 1]
    different = [key for key in differing if key.split(".")[0] not in NOT_HASHED and not key.startswith("model.suggested")]
    different = [key for key in different if key != "objective._target_"]  # objective.name says more
    classes = [key.removesuffix("._target_") for key in different if key.endswith("._target_")]
    kept = [key for key in different if not any(key.startswith(f"{c}.") and not key.endswith("._target_") for c in classes)]
    return [key for key in kept if not key.endswith("weight._target_")]  # objective.name says the same


def _follows(key: str, derived: set[str]) -> bool:
    """Whether a key is derived, or in a section that is."""
    parts = key.split(".")
    return any(".".join(parts[:count]) in derived for count in range(1, len(parts) + 1))

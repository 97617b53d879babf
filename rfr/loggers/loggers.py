"""The loggers: W&B (offline unless logged in), a CSV file that survives a resume, TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from rfr.errors import reading
from rfr.utils.files import new_file


class MetricsCsv(Logger):
    """One row per optimizer step that logged something, in `metrics.csv`. Lightning's own deletes the file on resume."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / "metrics.csv"
        self._rows: dict[int, dict[str, Any]] = {}
        if self._path.exists():
            with reading(self._path), self._path.open(newline="") as lines:
                self._rows = {int(row["step"]): {k: v for k, v in row.items() if v != ""} for row in csv.DictReader(lines)}

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run folder holds config.yaml already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        if values:
            self._rows.setdefault(step or 0, {"step": step or 0}).update(values)

    @rank_zero_only
    def save(self) -> None:
        columns = list(dict.fromkeys(["step", *(name for row in self._rows.values() for name in row)]))
        with new_file(self._path) as partial, partial.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, columns)
            writer.writeheader()
            writer.writerows(self._rows[step] for step in sorted(self._rows))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The entries of a run in a logger's list of runs.

    Args:
        run_id: stays the same when the run is resumed.
        config: its settings, and the figures known before the first step.
        group: the sweep it belongs to.
    """

    run_id: str
    name: str
    config: Mapping[str, Any]
    tags: Sequence[str]
    group: str | None


def csv_logger(run_dir: Path, info: RunInfo) -> Logger:
    """`metrics.csv` in the run folder."""
    return MetricsCsv(run_dir)


def tensorboard_logger(run_dir: Path, info: RunInfo) -> Logger:
    """Event files in the run folder."""
    return TensorBoardLogger(save_dir=run_dir, name="", version="tensorboard")


def wandb_logger(run_dir: Path, info: RunInfo, *, project: str, corpus_text: bool = False) -> Logger:
    """W&B online where the user is logged in, else offline in the run folder; the same run id on resume."""
    from rfr.loggers.wandb_run import start

    return start(run_dir, vars(info), project, corpus_text=corpus_text)


def log_start(loggers: Sequence[Any], figures: dict[str, float], arrays: dict[str, np.ndarray]) -> None:
    """Log the figures known before the first step everywhere, and distributions of arrays to W&B and TensorBoard."""
    for logger in loggers:
        logger.log_metrics(figures, 0)
        if isinstance(logger, WandbLogger):
            import wandb

            counted: dict[str, Any] = {
                name: wandb.Histogram(np_histogram=np.histogram(values, 64)) for name, values in arrays.items()
            }
            logger.log_metrics(counted, 0)
        elif isinstance(logger, TensorBoardLogger):
            for name, values in arrays.items():
                logger.experiment.add_histogram(name, values, 0)


def finish(loggers: Sequence[Any], figures: dict[str, float], step: int, files: Iterable[Path]) -> None:
    """Log the figures known after the last step, and keep files with the run where a logger can."""
    for logger in loggers:
        logger.log_metrics(figures, step)
        logger.finalize("success")
        if hasattr(logger, "finish"):
            logger.finish(files)

"""Where metrics go: W&B (offline unless logged in, never a prompt), a CSV file that survives a resume, TensorBoard."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only


class MetricsCsv(Logger):
    """One row per optimizer step that logged something, in `metrics.csv`. Lightning's own deletes the file on resume."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / "metrics.csv"
        self._rows: dict[int, dict[str, Any]] = {}
        if self._path.exists():
            with self._path.open(newline="") as lines:
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
        partial = self._path.with_suffix(".partial")
        with partial.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, columns)
            writer.writeheader()
            writer.writerows(self._rows[step] for step in sorted(self._rows))
        os.replace(partial, self._path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def csv_logger(run_dir: Path, **_: Any) -> Logger:
    """`metrics.csv` in the run folder."""
    return MetricsCsv(run_dir)


def tensorboard_logger(run_dir: Path, **_: Any) -> Logger:
    """Event files in the run folder."""
    return TensorBoardLogger(save_dir=run_dir, name="", version="tensorboard")


def wandb_logger(run_dir: Path, config: dict, run_id: str, name: str, group: str | None, project: str) -> Logger:
    """W&B online where the user is logged in, else offline in the run folder; the same run id on resume."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    # resume: an offline run can't know what the server has, and W&B warns when told to.
    settings = wandb.Settings(console="off", silent=True)
    run = wandb.init(
        project=project, group=group, name=name, id=run_id, dir=run_dir, config=config, mode=mode, settings=settings,
        resume="allow" if mode == "online" else None,
    )  # fmt: skip
    return WandbLogger(experiment=run)


def _logged_in() -> bool:
    """Whether a key is at hand; asking wandb.login() would prompt."""
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)

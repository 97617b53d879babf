"""A run on W&B: one id however often it resumes, each step once, no text of the corpus unless asked to."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from rfr.errors import as_user_error, reading
from rfr.loggers.wandb_file import history

STEP = "trainer/global_step"  # Lightning's name of the x-axis; "tokens" and "optimizer_steps" are logged beside it


class WandbLog(WandbLogger):
    """Rows whose W&B step is the optimizer step.

    A resumed run takes some steps again. It sends those that W&B lacks and leaves out the others, so that W&B holds each step of
    all attempts once, whenever an attempt was killed.

    Args:
        experiment: the W&B run.
        known: the last step whose row W&B has; -1: none.
        corpus_text: prompts, which came from Reddit, may be sent with the stories written for them.
    """

    def __init__(self, experiment: Any, known: int, *, corpus_text: bool) -> None:
        super().__init__(experiment=experiment)
        self._known, self._corpus_text = known, corpus_text
        self._last = known + 1
        self._held: tuple[int, Mapping[str, Any]] | None = None  # the last row of earlier attempts, and its step

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if self._held is not None and step is not None:
            (held, row), self._held = self._held, None
            if held < step:  # a checkpoint followed that row, so its step is not taken again
                self.log_metrics(row, held)
        self._last = self._last if step is None else max(self._last, step)
        if self._last > self._known and step in (None, self._last):
            self.experiment.log({**metrics, STEP: self._last}, step=self._last)

    def backfill(self, file: Path) -> None:
        """Send the rows of `metrics.csv` that W&B lacks; the last, of which more may come, only once a later step is logged."""
        with reading(file), file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
            numbers = {int(row.pop("step")): {name: float(value) for name, value in row.items() if value} for row in rows}
        last = numbers.popitem() if numbers else None
        for step, metrics in numbers.items():
            if step > self._known:
                self.log_metrics(metrics, step)
        self._known, self._held = max([self._known, *numbers]), last

    @rank_zero_only
    def log_samples(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """A table of stories; instead of its prompt each has that prompt's number, unless corpus text may be sent."""
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(row["prompt"] for row in rows))}
        prompts = [row["prompt"] if self._corpus_text else numbers[row["prompt"]] for row in rows]
        data = [[row["step"], prompt, row["response"]] for row, prompt in zip(rows, prompts, strict=True)]
        self.log_table("samples", columns=["step", "prompt", "response"], data=data, step=step)

    @rank_zero_only
    def finish(self, files: Iterable[Path]) -> None:
        """Send what the run leaves behind, and end it.

        Args:
            files: each becomes an artifact named after it.
        """
        run = self.experiment
        for file in filter(Path.is_file, files):
            artifact = wandb.Artifact(f"{file.stem}-{run.id}", type=file.stem)
            artifact.add_file(str(file))
            run.log_artifact(artifact)
        run.finish()
        if run.settings.mode == "offline":
            print(f"logged offline; upload with: wandb sync {Path(run.settings.wandb_dir)}", flush=True)


def start(run_dir: Path, info: Mapping[str, Any], project: str, *, corpus_text: bool) -> WandbLog:
    """Online where the user is logged in and the server answers, else offline in the run's folder.

    Args:
        info: the fields of `RunInfo`.
    """
    earlier = sorted(run_dir.glob("wandb/offline-run-*/run-*.wandb"))
    about = dict(info)
    run_id = os.environ.get("WANDB_RUN_ID", about.pop("run_id"))  # a W&B sweep's agent names its runs itself
    run = _init(dir=run_dir, id=run_id, project=project, job_type="train", **about)
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    log = WandbLog(run, _last_step(earlier) if run.offline else run.step - 1, corpus_text=corpus_text)
    if (rows := run_dir / "metrics.csv").is_file():
        log.backfill(rows)
    return log


def _last_step(files: Iterable[Path]) -> int:
    """The last step that earlier attempts wrote; -1 where there is none."""
    return max((int(row[STEP]) for file in files for row in history(file) if STEP in row), default=-1)


def log_evaluation(out: Path, name: str, figures: Mapping[str, Any], group: str | None, project: str) -> None:
    """A run of its own, of job type "evaluate": numbers in its summary, `evaluation.json` as an artifact.

    Args:
        out: the folder of that file.
        name: of the run that trained the policy; this one is named after it.
        figures: their numbers are sent, nested ones under their path.
    """
    run = _init(
        dir=out,
        name=f"{name}-evaluation",
        group=group,
        project=project,
        job_type="evaluate",
        config={"model": figures["model"]},
    )
    run.summary.update(_numbers(figures))
    WandbLog(run, -1, corpus_text=False).finish([out / "evaluation.json"])


def _numbers(node: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            numbers |= _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            numbers[f"{prefix}{key}"] = value
    return numbers


def _init(**about: Any) -> Any:
    with as_user_error("W&B refuses its settings", ValueError, wandb.errors.UsageError):
        return _init_online_or_offline(**about)


def _init_online_or_offline(**about: Any) -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")
    logged_in = os.environ.get("WANDB_MODE") is None and wandb.login(prompt=False, verify=False)
    mode: Any = os.environ.get("WANDB_MODE") or ("online" if logged_in else "offline")
    about["settings"] = wandb.Settings(console="off", silent=True)
    if mode == "online":  # an offline run can't know what the server has, and W&B warns when told to resume
        try:
            return wandb.init(mode=mode, resume="allow", **about)
        except wandb.errors.CommError as error:
            reason = str(error).partition("\n")[0]
            print(f"W&B can't be reached ({reason}): the run is logged offline", flush=True)
            wandb.teardown()  # its service would keep the run's id
            mode = "offline"
    return wandb.init(mode=mode, **about)

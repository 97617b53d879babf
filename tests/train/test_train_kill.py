"""kill -9 at twenty random moments of a training run: what it does in the end is, to the bit, what it would have done without."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rfr.loggers.wandb_file import history
from rfr.train.checkpoints import checkpoints
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command, last_json, require_same_run

KILLS, AT_START = 20, 4  # of these, so many before the first step is logged
RUN = [
    *SMALL, "model.dropout=0.1", "objective=rwr", "schedule=wsd", "schedule.warmup_steps=20", "trainer.accumulate=2",
    "trainer.micro_batch=2", "trainer.max_steps=200", "trainer.validate_every=12", "trainer.checkpoint_every=4",
    "trainer.validation_rows=4", "logger=[csv,wandb]",
]  # fmt: skip


def _killed(arguments: list[str], run_dir: Path, steps: int | None) -> bool:
    """Start it, kill it within a step, so many after the first it logs, None: while it starts; whether it was still running."""
    child = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    if steps is None:
        time.sleep(random.uniform(1, 4))
    else:
        metrics = run_dir / "metrics.csv"
        before = metrics.stat().st_mtime_ns if metrics.exists() else 0
        while child.poll() is None and (metrics.stat().st_mtime_ns if metrics.exists() else 0) == before:
            time.sleep(0.01)
        first = _logged(run_dir)
        while child.poll() is None and _logged(run_dir) < first + steps:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.1))
    running = child.poll() is None
    if running:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return running


def _logged(run_dir: Path) -> int:
    """How many steps are."""
    with (run_dir / "metrics.csv").open() as lines:
        return sum(1 for _ in lines)


@pytest.mark.slow
def test_twenty_kills_leave_no_trace(folders: list[str], tmp_path: Path) -> None:
    random.seed(0)
    where = [folders[0], f"runs_dir={tmp_path}"]
    whole = Path(last_json(command(["train.py", *RUN, *where, "name=whole"]))["run_dir"])
    run_dir = tmp_path / "killed"
    moments = [random.randrange(14) for _ in range(KILLS - AT_START)] + [None] * AT_START
    random.shuffle(moments)
    steps = []
    for moment in moments:
        begun = (run_dir / "config.yaml").exists()
        arguments = ["train.py", f"resume={run_dir}"] if begun else ["train.py", *RUN, *where, "name=killed"]
        assert _killed(arguments, run_dir, moment), "it had ended before it was killed: let it take more steps"
        if run_dir.exists() and not (run_dir / "config.yaml").exists():
            run_dir.rmdir()  # killed before it had anything to go on with
        steps.append(max((int(path.name.split("-")[1]) for path in checkpoints(run_dir / "checkpoints")), default=0))
    assert len(set(steps)) > 8, f"it was killed at different steps: {steps}"
    last_json(command(["train.py", f"resume={run_dir}"]))
    print(f"{KILLS} kills, newest checkpoints then: {steps}")
    require_same_run(whole, run_dir)
    assert len(column(run_dir, "train/loss")) == 200
    ids = {path.name.rsplit("-", 1)[1] for path in (run_dir / "wandb").glob("offline-run-*")}
    assert len(ids) == 1, "W&B takes all of them for one run"
    rows = [row for file in sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb")) for row in history(file)]
    losses = {int(row["trainer/global_step"]): float(row["train/loss"]) for row in rows if "train/loss" in row}
    assert list(losses.values()) == column(run_dir, "train/loss")
    assert sum("train/loss" in row for row in rows) == 200, "no step is told twice"

"""Whole runs that want one folder at once: one trains, the others are told who does, and its files are an undisturbed run's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rfr.runs.outcome import FINISHED, state_of
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command, last_json, require_same_run

pytestmark = pytest.mark.slow
RUN = [*SMALL, "trainer.max_steps=120", "trainer.validate_every=20", "trainer.checkpoint_every=10", "trainer.validation_rows=4"]
HELD = "is being trained by process {pid} on "


@pytest.fixture(scope="module")
def whole(folders: list[str]) -> Path:
    """An undisturbed run."""
    return Path(last_json(command(["train.py", *RUN, *folders, "name=whole"]))["run_dir"])


def _start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def _require_one_trains(started: Sequence[subprocess.Popen[str]]) -> None:
    """One ends well; each of the others in a line that names it."""
    errors = [process.communicate(timeout=300)[1] for process in started]
    (trained,) = (process for process in started if process.returncode == 0)
    for process, err in zip(started, errors, strict=True):
        if process is not trained:
            assert process.returncode == 2, err
            assert err.count("rfr: ") == 1, err
            assert HELD.format(pid=trained.pid) in err


def _killed_amid(arguments: Sequence[str], run_dir: Path, steps: int = 30) -> None:
    """Start it, and kill it and all that it has started when it has logged so many steps."""
    process = _start(arguments)
    while not (run_dir / "metrics.csv").exists() or len(column(run_dir, "train/loss")) < steps:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert state_of(run_dir) != FINISHED


@contextmanager
def _halted(process: subprocess.Popen[str]) -> Iterator[None]:
    """Halt a process and its children, so that they can't have ended when another process looks."""
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:  # what stands still would outlive a test that failed
        os.killpg(process.pid, signal.SIGCONT)


def _first_run(sweep: subprocess.Popen[str], group: Path) -> Path:
    """The folder of a sweep's first run, once it has logged a step."""
    while not (started := list(group.glob("*/metrics.csv"))):
        assert sweep.poll() is None, sweep.communicate()[1]
        time.sleep(0.05)
    (metrics,) = started
    return metrics.parent


@pytest.mark.parametrize("count", [2, 10])
def test_one_of_several_starts_of_a_name_trains(folders: list[str], whole: Path, count: int) -> None:
    arguments = ["train.py", *RUN, *folders, f"name=started-{count}"]
    _require_one_trains([_start(arguments) for _ in range(count)])
    require_same_run(whole, whole.parent / f"started-{count}")


def test_one_of_two_resumes_trains(folders: list[str], whole: Path) -> None:
    run_dir = whole.parent / "resumed"
    _killed_amid(["train.py", *RUN, *folders, "name=resumed"], run_dir)
    _require_one_trains([_start(["train.py", f"resume={run_dir}"]) for _ in range(2)])
    require_same_run(whole, run_dir)


def test_a_killed_holder_is_followed_at_once(folders: list[str], whole: Path) -> None:
    run_dir = whole.parent / "killed"
    for steps in (30, 60):
        begun = run_dir.exists()
        _killed_amid(["train.py", *([f"resume={run_dir}"] if begun else [*RUN, *folders, "name=killed"])], run_dir, steps)
    assert command(["train.py", f"resume={run_dir}"]).returncode == 0
    require_same_run(whole, run_dir)
    assert not list(run_dir.parent.glob(".*.lock"))


def test_a_sweep_beside_a_resume_of_one_of_its_points(folders: list[str], whole: Path) -> None:
    sweep = ["train.py", "-m", *RUN, *folders, "group=beside", "schedule=cosine,constant"]
    group = whole.parent / "beside"
    first = _start(sweep)
    run_dir = _first_run(first, group)
    with _halted(first):
        second = command(["train.py", f"resume={run_dir}"])
    assert second.returncode == 2
    assert re.search(rf"rfr: {run_dir} is being trained by process {first.pid} on \S+ since", second.stderr)
    _, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    assert [state_of(path.parent) for path in group.glob("*/config.yaml")] == [FINISHED] * 2


def test_a_resume_beside_the_sweep_that_the_run_belongs_to(folders: list[str], whole: Path) -> None:
    """The sweep trains its other runs, says who has this one, and ends with 2; started again, all is there."""
    sweep = ["train.py", "-m", *RUN, *folders, "group=later", "seed=0,1"]
    group = whole.parent / "later"
    first = _start(sweep)
    run_dir = _first_run(first, group)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    resumed = _start(["train.py", f"resume={run_dir}"])
    while str(resumed.pid) not in (run_dir.parent / f".{run_dir.name}.lock").read_text():  # at first it names the killed one
        time.sleep(0.02)
    with _halted(resumed):
        again = command(sweep)
    assert again.returncode == 2, again.stdout
    assert HELD.format(pid=resumed.pid) in again.stderr
    resumed.communicate(timeout=300)
    assert resumed.returncode == 0
    assert command(sweep).returncode == 0
    assert [state_of(path.parent) for path in group.glob("*/config.yaml")] == [FINISHED] * 2


def test_ranks_that_were_started_together_leave_a_held_folder_alone(folders: list[str], whole: Path) -> None:
    """As torchrun starts them; SLURM's are told of one another by its own variables, and take the same way."""
    arguments = ["train.py", *RUN, *folders, "name=ranks", "trainer.max_steps=400"]
    first = _start(arguments)
    run_dir = whole.parent / "ranks"
    while not (run_dir / "metrics.csv").exists():
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.05)
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py", f"resume={run_dir}"]
    with _halted(first):
        second = command([*ranks, "trainer.accumulate=1", "trainer.micro_batch=1"])
    assert second.returncode != 0
    assert HELD.format(pid=first.pid) in second.stderr
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()

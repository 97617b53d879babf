"""Sweeps that survive: kills, stops, failing jobs, several launchers, and points that can't be."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from rfr import cli
from rfr.runs.folder import load
from rfr.runs.outcome import FINISHED, failure_of, result_of, state_of
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command

EIGHT = ["optimizer.lr=1e-4,3e-4,1e-3,3e-3", "schedule=constant,cosine"]


def _sweep(folders: list[str], group: str, *overrides: str) -> list[str]:
    return ["train.py", "-m", *SMALL, *folders, f"group={group}", *overrides]


def _group(folders: list[str], name: str) -> Path:
    return Path(folders[1].removeprefix("runs_dir=")) / name


def _run_dirs(group: Path) -> list[Path]:
    return sorted(path.parent for path in group.glob("*/config.yaml"))


def _processes_in(group: Path) -> list[psutil.Process]:
    """Those whose command names the group's folder."""
    return [process for process in psutil.process_iter() if str(group) in " ".join(_command_of(process))]


def _command_of(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True)  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("optimizer.lr=1e-3,2e-3", "schedule.warmup_stepz=1"), "Could not override 'schedule.warmup_stepz'"),
        (("optimizer.lr=1e-3,abc",), "optimizer.lr=abc: optimizer.lr must be a number above 0, not abc"),
        (("schedule=cosine,cosin",), "schedule=cosin: In 'train': Could not find 'schedule/cosin'"),
        (("schedule.warmup_steps=1,99",), "schedule.warmup_steps=99 must be below"),
        (("model.weights=random,/nowhere",), "model.weights=/nowhere: no model folder"),
        (("optimizer._target_=torch.optim.AdamW,os.system",), "os.system is refused"),
        (("seed=0,0",), "seed=0 and seed=0 would share a run folder: they differ in nothing"),
        (("seed=0,1", "name=same"), "seed=0 and seed=1 would share a run folder: leave out name="),
        (("optimizer.lr=interval(1,2)",), "BasicSweeper does not support sweep type"),
        (("hydra/sweeper=optuna", "optimizer.lr=interval(1e-4,1e-3)", "metric=val/los"),
         "metric=val/los: a search goes by one of quality, val/pair_accuracy, val/nll_per_token, val/pair_loss"),
        (("hydra/sweeper=optuna", "optimizer.lr=interval(1e-4,1e-3)", "schedule.warmup_steps=choice(1,2,99)"),
         "schedule.warmup_steps=99 optimizer.lr=0.0001: schedule.warmup_steps=99 must be below"),
    ],
)  # fmt: skip
def test_one_wrong_point_stops_a_sweep_before_anything_runs(
    overrides: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [f"data_dir={tmp_path}/data", f"runs_dir={tmp_path}/runs"]
    monkeypatch.setattr(sys, "argv", _sweep(folders, "wrong", *overrides))
    with pytest.raises(SystemExit) as stop:
        cli.train()
    assert stop.value.code == 2
    assert message in capfd.readouterr().err
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.slow
def test_a_sweep_killed_ten_times_ends_with_all_its_runs(folders: list[str]) -> None:
    group, moments = _group(folders, "killed"), random.Random(0)
    finished_at: dict[Path, int] = {}
    began = time.monotonic()
    assert command(_sweep(folders, "one")).returncode == 0
    took = time.monotonic() - began  # of a sweep of one run; this machine may be slow
    for _ in range(10):
        sweep = _start(_sweep(folders, "killed", *EIGHT))
        time.sleep(moments.uniform(0.1, 1.5) * took)
        ended = sweep.poll()
        sweep.kill()  # nothing else, even where it has ended by now
        out, _ = sweep.communicate()
        assert ended is None, out
        for result in group.glob("*/result.json"):
            assert finished_at.setdefault(result, result.stat().st_mtime_ns) == result.stat().st_mtime_ns
    assert 0 < len(finished_at) < 8
    done = command(_sweep(folders, "killed", *EIGHT))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"8 runs, {len(finished_at)} finished" in " ".join(done.stdout.split())
    assert len(_run_dirs(group)) == 8
    assert {state_of(run_dir) for run_dir in _run_dirs(group)} == {FINISHED}
    assert all(result.stat().st_mtime_ns == before for result, before in finished_at.items())
    assert not _processes_in(group)


@pytest.mark.slow
def test_three_failing_jobs_leave_nine_good_ones(folders: list[str], tmp_path: Path) -> None:
    points: dict[str, dict] = {f"good{number}": {"seed": number} for number in range(9)}
    points["diverges"] = {"optimizer": {"lr": 1e30}}
    points["breaks"] = {"preprocess": {"clean": {"min_words": 100_000}}}
    points["too_large"] = {"model": {"random": {"n_embd": 16384, "n_layer": 4}}}
    (tmp_path / "experiment").mkdir()
    for name, point in points.items():
        (tmp_path / "experiment" / f"{name}.yaml").write_text(
            "# @package _global_\n" + OmegaConf.to_yaml(OmegaConf.create(point))
        )
    small = [override for override in SMALL if "n_embd" not in override]
    sweep = ["train.py", "-m", "--config-dir", str(tmp_path), *small, *folders, "group=failing", f"experiment={','.join(points)}"]
    limited = f"ulimit -v {12 * 2**20}; exec {sys.executable} {' '.join(sweep)}"
    done = subprocess.run(["bash", "-c", limited], cwd=ROOT, text=True, capture_output=True, timeout=600, check=False)
    assert done.returncode == 2, done.stdout[-3000:] + done.stderr[-3000:]  # the worst of all: min_words is the user's
    run_dirs = _run_dirs(_group(folders, "failing"))
    assert len(run_dirs) == 12
    assert sum(state_of(run_dir) == FINISHED for run_dir in run_dirs) == 9
    why = sorted(reason for run_dir in run_dirs if (reason := failure_of(run_dir)))
    assert len(why) == 3
    assert sum("the loss is nan" in reason for reason in why) == 1
    assert sum("gradient_clip" in reason for reason in why) == 1  # the divergent one is advised to lower it
    assert sum("split is empty" in reason for reason in why) == 1
    assert sum("allocate memory" in reason for reason in why) == 1
    table = done.stdout[done.stdout.index("3 failed; the same command tries them again") :]
    assert "allocate memory" in table
    assert "the loss is nan" in table


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")], ids=["one", "joblib"])
def test_ctrl_c_stops_a_sweep_and_its_children(folders: list[str], launcher: tuple[str, ...]) -> None:
    name = f"stopped-{len(launcher)}"
    group, long = _group(folders, name), ["optimizer.lr=1e-3,2e-3", "trainer.max_steps=400", "trainer.validate_every=400"]
    sweep = _start(_sweep(folders, name, *long, *launcher))
    while not list(group.glob("*/metrics.csv")):
        assert sweep.poll() is None, sweep.communicate()[0]
        time.sleep(0.2)
    os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
    out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 130, out[-3000:]
    assert "Traceback" not in out, out
    assert "resume=" not in out
    deadline = time.monotonic() + 20
    while _processes_in(group):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not list(group.glob("*/result.json"))
    if not launcher:  # joblib may kill its workers' children before they have saved and said so
        assert "start the same command again" in out
        assert list(group.glob("*/checkpoints/step-*"))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_runs_stop_quietly_when_their_sweep_is_killed(folders: list[str], tmp_path: Path, ranks: int) -> None:
    name = f"quiet-{ranks}"
    group, long = _group(folders, name), ["optimizer.lr=1e-3,2e-3", "trainer.max_steps=4000", "trainer.validate_every=4000"]
    arguments = _sweep(folders, name, *long, f"trainer.ranks={ranks}", "strategy=ddp" if ranks > 1 else "strategy=single")
    output = tmp_path / "output"
    with output.open("w") as file:
        sweep = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=file, stderr=file)
    while not any(len(column(run_dir.parent, "train/loss")) > 2 for run_dir in group.glob("*/metrics.csv")):
        assert sweep.poll() is None, output.read_text()
        time.sleep(0.2)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    _, left = psutil.wait_procs(_processes_in(group), timeout=60)
    assert not left
    last = [line for line in output.read_text().splitlines() if line][-3:]
    assert last[0] == "stopping after this step (again: at once) ..."
    assert last[1].startswith("step ")
    assert re.fullmatch(r"stopped at step \d+; start the same command again", last[2])
    assert list(group.glob("*/checkpoints/step-*"))


@pytest.mark.slow
def test_runs_of_two_ranks_in_a_sweep(folders: list[str]) -> None:
    """DeepSpeed, two processes each: the same curves as one process gives."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("takes two cores")
    two = ["optimizer.lr=1e-3,3e-3", "strategy=deepspeed_2", "trainer.micro_batch=1"]
    done = command(_sweep(folders, "ranks", *two, "trainer.ranks=2"))
    assert done.returncode == 0, done.stderr[-3000:]
    alone = command(_sweep(folders, "alone", *two, "trainer.accumulate=2"))
    assert alone.returncode == 0, alone.stderr[-3000:]
    losses = {}
    for name in ("ranks", "alone"):
        for run_dir in _run_dirs(_group(folders, name)):
            cfg = load(run_dir)
            assert state_of(run_dir) == FINISHED
            losses[name, cfg.optimizer.lr] = (result_of(run_dir) or {})["val/nll_per_token"]
    assert len(losses) == 4
    for (name, rate), loss in losses.items():
        assert loss == pytest.approx(losses["alone", rate], rel=1e-3), (name, rate)

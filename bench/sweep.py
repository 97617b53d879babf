"""`make bench-sweep`: a sweep of twelve runs on every launcher, killed again and again, and told to W&B through a bad network.

`python -m bench.sweep`; in runs/bench-sweep.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil
from omegaconf import OmegaConf

from bench.lib.report import ROOT, Figure, record
from rfr.runs.folder import load
from rfr.runs.outcome import FINISHED, result_of, state_of
from tests.helpers.wandb_stub import serving

RUNS = ROOT / "runs" / "bench-sweep"
SMALL = ["model=tiny", "corpus=demo", "corpus.demo.threads=60", "strategy=single", "precision=fp32", "model.block_size=128",
         "preprocess.fit.context_tokens=16", "schedule.warmup_steps=5", "trainer.max_steps=60", "trainer.validate_every=30",
         "trainer.checkpoint_every=10", "samples.prompts=0", f"data_dir={RUNS / 'data'}", f"runs_dir={RUNS}"]  # fmt: skip
SWEPT = ["optimizer.lr=1e-3,2e-3,4e-3,8e-3", "schedule=constant,linear,cosine"]
LAUNCHERS = {
    "sequential": [], "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2"],
    "ray": ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.remote.num_cpus=1"],
}  # fmt: skip
RUNS_OF_A_SWEEP, KILLS = 12, 10
ONLINE_STEPS, FAILING = 200, 0.5
# One thread for each: with another number of them sums round otherwise, and launchers give their jobs what they please.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}


def main() -> None:
    shutil.rmtree(RUNS, ignore_errors=True)
    _sweep("warm-up", "schedule=constant")  # collects and prepares the corpus once
    seconds = {name: _sweep(name, *SWEPT, *options) for name, options in LAUNCHERS.items()}
    complete = {name: _complete(RUNS / name) for name in LAUNCHERS}
    apart = _apart([_losses(RUNS / name) for name in LAUNCHERS])
    by_hand, overheads = _overhead()
    retrained, killed_amid = _killed()
    lost, sent, refused = _online()
    rows: list[tuple[str, float, str, str]] = [
        ("complete_runs", min(*complete.values(), _complete(RUNS / "killed")), f"= {RUNS_OF_A_SWEEP}",
         "of 12 on the launcher with the fewest, kills included"),
        ("launchers_agree", int(apart == 0), "= 1", f"1: final losses are the same on {', '.join(LAUNCHERS)}"),
        ("launchers_apart", apart, "", "the largest difference between final losses"),
        *((f"seconds_{name}", taken, "", f"the sweep on {name}") for name, taken in seconds.items()),
        ("seconds_by_hand", by_hand, "", "the twelve children started one after another by hand"),
        ("overhead", median(overheads), "<= 0.1", "of the sequential sweep over those, median of three pairs"),
        ("kills_amid", killed_amid, "", f"of {KILLS} kill -9 at random moments, those before the sweep had ended"),
        ("retrained_jobs", retrained, "= 0", "finished jobs that were trained again after a kill"),
        ("orphans", len(_processes()), "= 0", "processes left at the end"),
        ("rows_sent_online", sent, "", "history rows of a run whose server fails half of the time"),
        ("requests_refused", refused, "", "by that server"),
        ("rows_lost_online", lost, "= 0", "of those rows, how many did not arrive"),
    ]  # fmt: skip
    figures = [Figure(name=name, value=value, target=target, meaning=meaning) for name, value, target, meaning in rows]
    record("sweep", figures, ["torch", "pytorch-lightning", "hydra-core", "wandb", "ray", "submitit", "joblib"], {})


def _command(group: str, *overrides: str) -> list[str]:
    return [sys.executable, "train.py", "-m", *SMALL, "logger=csv", f"group={group}", *overrides]


def _sweep(group: str, *overrides: str) -> float:
    began = time.monotonic()
    _run(_command(group, *overrides))
    return time.monotonic() - began


def _run(command: list[str], environment: dict[str, str] = ENVIRONMENT) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")


def _run_dirs(group: Path) -> list[Path]:
    return sorted(path.parent for path in group.glob("*/config.yaml"))


def _complete(group: Path) -> int:
    """Runs that finished with the configs that were asked for."""
    points = {(cfg.optimizer.lr, cfg.schedule._target_) for cfg in map(load, _run_dirs(group))}
    finished = sum(state_of(run_dir) == FINISHED for run_dir in _run_dirs(group))
    return min(finished, len(points))


def _losses(group: Path) -> dict[str, float]:
    return {run_dir.name: (result_of(run_dir) or {})["val/nll_per_token"] for run_dir in _run_dirs(group)}


def _apart(runs: list[dict[str, float]]) -> float:
    assert all(losses.keys() == runs[0].keys() for losses in runs)
    return max(abs(losses[name] - runs[0][name]) for losses in runs for name in losses)


def _overhead() -> tuple[float, list[float]]:
    """Three sweeps, each beside its children by hand, turn and turn about."""
    by_hand, overheads = [], []
    for turn in range(3):
        sweep = _sweep(f"swept-{turn}", *SWEPT)
        began = time.monotonic()
        for run_dir in _run_dirs(RUNS / f"swept-{turn}"):
            target = RUNS / f"by-hand-{turn}" / run_dir.name
            handover = RUNS / "handover.yaml"
            handover.write_text(OmegaConf.to_yaml(load(run_dir)))
            _run([sys.executable, "-m", "rfr.train.process", str(handover), str(target)])
        by_hand.append(time.monotonic() - began)
        overheads.append(sweep / by_hand[-1] - 1)
    return median(by_hand), overheads


def _killed() -> tuple[int, int]:
    """Finished jobs that were trained again; kills that came before the sweep had ended."""
    luck, first_seen, amid = random.Random(0), dict[Path, int](), 0
    for _ in range(KILLS):
        sweep = subprocess.Popen(_command("killed", *SWEPT), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        time.sleep(luck.uniform(2, 20))
        amid += sweep.poll() is None
        os.kill(sweep.pid, signal.SIGKILL)
        sweep.wait()
        for result, written in _results("killed"):
            first_seen.setdefault(result, written)
    _sweep("killed", *SWEPT)
    return sum(first_seen.get(result, written) != written for result, written in _results("killed")), amid


def _results(group: str) -> Iterator[tuple[Path, int]]:
    for result in (RUNS / group).glob("*/result.json"):
        yield result, result.stat().st_mtime_ns


def _processes() -> list[int]:
    """Whose commands name the folder of this benchmark; they get ten seconds to end."""
    deadline = time.monotonic() + 10
    while left := [p.pid for p in psutil.process_iter(["cmdline"]) if str(RUNS) in " ".join(p.info["cmdline"] or [])]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return left


def _online() -> tuple[int, int, int]:
    """History rows that did not arrive, rows that were logged, requests that were refused."""
    with serving(FAILING) as server:
        online = {name: value for name, value in ENVIRONMENT.items() if name != "WANDB_MODE"} | server.environment
        steps = [f"trainer.max_steps={ONLINE_STEPS}", "trainer.validate_every=50"]
        _run([sys.executable, "train.py", *SMALL, "logger=[csv,wandb]", "name=online", *steps], online)
    logged = {int(line.split(",")[0]) for line in (RUNS / "online" / "metrics.csv").read_text().splitlines()[1:]}
    ((run, _),) = server.runs.items()
    arrived = {int(row["_step"]) for row in server.rows(run)}
    return len(logged - arrived), len(logged), server.answered["failed"]


if __name__ == "__main__":
    print(json.dumps({"runs": str(RUNS)}))
    main()

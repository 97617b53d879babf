"""Small training runs for tests: composed like a user's, and what they leave behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from rfr import config
from rfr.errors import Interrupted
from rfr.runs.folder import run_folder
from rfr.train.callbacks import GracefulStop
from rfr.train.recipe import Recipe
from rfr.train.run import train
from tests.conftest import ROOT

SMALL = [
    "model=tiny", "corpus=demo", "corpus.demo.threads=40", "logger=csv", "strategy=single", "precision=fp32",
    "model.random.n_embd=32", "model.random.n_head=2", "model.block_size=128",
    "preprocess.fit.context_tokens=16", "schedule.warmup_steps=2",
    "trainer.max_steps=6", "trainer.validate_every=3", "samples.prompts=1", "samples.sampling.max_new_tokens=8",
]  # fmt: skip


def small_config(folders: list[str], name: str, *overrides: str) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        one_cycle = "schedule=one_cycle" in overrides  # its rise is its warm-up
        small = [override for override in SMALL if not (one_cycle and override.startswith("schedule."))]
        return config.resolve(compose("train", [*small, *folders, f"name={name}", *overrides]))


def train_small(folders: list[str], name: str, *overrides: str) -> tuple[Path, dict]:
    """In this process; the run folder and the result."""
    cfg = small_config(folders, name, *overrides)
    return run_folder(cfg), train(Recipe.of(cfg), run_folder(cfg))


def command(arguments: list[str], timeout: float = 600, **options: Any) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=timeout, **options)


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """A run trained inside gets a Ctrl-C when it has taken so many steps, and must end for it."""
    real = GracefulStop.on_train_batch_end

    def interrupted(self: GracefulStop, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        real(self, trainer, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GracefulStop, "on_train_batch_end", interrupted)
        with pytest.raises(Interrupted, match=f"stopped at step {step}; go on with: python train.py resume="):
            yield


def last_json(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "model" / "model.safetensors")


def largest_difference(a: Path, b: Path) -> float:
    one, other = weights(a), weights(b)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def require_same_run(one: Path, other: Path) -> None:
    """Two runs must have the same weights, curves and samples, to the bit. Their times and speeds may differ."""
    assert largest_difference(one, other) == 0
    for name in ("train/loss", "train/nll_per_token", "grad_norm", "lr", "val/nll_per_token", "tokens"):
        assert column(one, name) == column(other, name), name
    for file in ("samples.jsonl", "best/rfr.json"):
        assert (one / file).read_text() == (other / file).read_text(), file
    results = [json.loads((run_dir / "result.json").read_text())["val/nll_per_token"] for run_dir in (one, other)]
    assert results[0] == results[1]


def column(run_dir: Path, name: str) -> list[float]:
    """Of `metrics.csv`, in the order of steps, where there is a value."""
    with (run_dir / "metrics.csv").open() as lines:
        return [float(row[name]) for row in csv.DictReader(lines) if row.get(name)]

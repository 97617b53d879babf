"""Training end to end on a small demo: exact, resumable, the same under every strategy."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from rfr.model.attention import hidden_states
from rfr.records import Batch
from rfr.runs.folder import load, run_folder
from rfr.train import checkpoints
from rfr.train.recipe import Recipe
from rfr.train.run import train
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command, largest_difference, last_json, small_config, stopped_at, train_small


@pytest.fixture(scope="module")
def cloned(folders: list[str]) -> Path:
    return train_small(folders, "cloned")[0]


def test_a_run_leaves_what_the_design_promises(folders: list[str], cloned: Path) -> None:
    for name in ("config.yaml", "metrics.csv", "ledger.json", "samples.jsonl", "result.json", "checkpoints/step-00000006"):
        assert (cloned / name).exists(), name
    result = json.loads((cloned / "result.json").read_text())
    assert {"run_dir", "steps", "val/nll_per_token", "tokens_per_second", "peak_rss_gib", "ess"} <= set(result)
    assert result["steps"] == 6
    losses = column(cloned, "train/loss")
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    peak = small_config(folders, "cloned").optimizer.lr
    assert column(cloned, "lr")[:3] == pytest.approx([peak / 2, peak, peak])
    assert len((cloned / "samples.jsonl").read_text().splitlines()) == 2
    model = AutoModelForCausalLM.from_pretrained(cloned / "model")
    tokenizer = AutoTokenizer.from_pretrained(cloned / "model")
    assert model.config.eos_token_id == tokenizer.eos_token_id


def test_cloning_is_reward_weighting_with_constant_weights_to_the_bit(folders: list[str], cloned: Path) -> None:
    constant = "{_target_: rfr.objective.raw_weights.Constant}"
    same, _ = train_small(folders, "constant", "objective=rwr", "~objective.weight", f"+objective.weight={constant}")
    other, _ = train_small(folders, "weighted", "objective=rwr")
    assert largest_difference(cloned, same) == 0
    assert column(cloned, "train/loss") == column(same, "train/loss")
    assert largest_difference(cloned, other) > 1e-4


def test_accumulation_changes_nothing(folders: list[str]) -> None:
    """One step of plain SGD shows the gradient itself, which Adam would hide."""
    sgd = ["~optimizer", "+optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 1.0, weight_decay: 0.0}", "objective=rwr",
           "schedule=constant", "schedule.warmup_steps=0", "trainer.max_steps=1", "trainer.gradient_clip=null"]  # fmt: skip
    whole, first = train_small(folders, "whole", *sgd, "trainer.micro_batch=8")
    parts, second = train_small(folders, "parts", *sgd, "trainer.micro_batch=2", "trainer.accumulate=4")
    assert largest_difference(whole, parts) < 1e-6
    assert first["steps"] == second["steps"] == 1


def test_a_stopped_run_resumes_bit_for_bit(folders: list[str], cloned: Path) -> None:
    cfg = small_config(folders, "stopped")
    run_dir = run_folder(cfg)
    with stopped_at(4):
        train(Recipe.of(cfg), run_dir)
    assert [path.name for path in checkpoints.checkpoints(run_dir / "checkpoints")] == ["step-00000003", "step-00000004"]
    assert not (run_dir / "result.json").exists()
    train(Recipe.of(load(run_dir)), run_dir)
    (run_dir / "result.json").unlink()  # cut off again, after the last step and before the end
    train(Recipe.of(load(run_dir)), run_dir)
    assert largest_difference(cloned, run_dir) == 0
    assert column(run_dir, "train/loss") == column(cloned, "train/loss")


def test_a_trained_policy_continues_from_its_folder(folders: list[str], cloned: Path) -> None:
    where = [f"model.weights={cloned}/model", f"model.tokenizer={cloned}/model", "trainer.validate_first=true"]
    _, result = train_small(folders, "continued", *where)
    before = json.loads((cloned / "result.json").read_text())["val/nll_per_token"]
    assert result["val/nll_per_token_before"] == pytest.approx(before, rel=1e-5)
    assert result["val/nll_per_token"] < before


def test_a_loaded_model_is_trained_in_training_mode(
    folders: list[str], cloned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Through validations and samples, which want the other mode for themselves."""
    seen = []

    def spied(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        seen.append((torch.is_grad_enabled(), {part.training for part in model.modules()}))
        return hidden_states(model, batch)

    monkeypatch.setattr("rfr.train.learner.hidden_states", spied)
    where = [f"model.weights={cloned}/model", f"model.tokenizer={cloned}/model", "model.activation_checkpointing=true"]
    train_small(folders, "loaded", *where)
    assert {gradients for gradients, _ in seen} == {True, False}
    assert all(modes == {gradients} for gradients, modes in seen)


# --- real processes from here on: DeepSpeed, several ranks, signals


@pytest.mark.slow
@pytest.mark.parametrize("best", ["true", "false"])
def test_parameters_that_zero_3_fetches_ahead_are_exported(folders: list[str], tmp_path: Path, best: str) -> None:
    """A validation ends with some on their way, for a backward pass that it has not: gathering them ended in an assertion."""
    ahead = "{stage3_max_live_parameters:50000,stage3_max_reuse_distance:0,stage3_param_persistence_threshold:0,"
    deep = ["model.random.n_layer=6", f"name=ahead-{tmp_path.name}", f"trainer.keep_best={best}"]
    zero = ["strategy=deepspeed_3", f"+strategy.zero={ahead}stage3_prefetch_bucket_size:20000}}"]
    fetched_ahead = last_json(command(["train.py", *SMALL, *folders, *deep, *zero]))
    reference, result = train_small(folders, f"reference-{tmp_path.name}", deep[0])
    assert fetched_ahead["val/nll_per_token"] == pytest.approx(result["val/nll_per_token"], rel=1e-4)
    assert largest_difference(reference, Path(fetched_ahead["run_dir"])) < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_leaves_a_resumable_run(folders: list[str], number: signal.Signals) -> None:
    """Not only what the last checkpoint held: SIGTERM, too, is answered with one of its own."""
    arguments = ["train.py", *SMALL, *folders, "strategy=deepspeed_2", "trainer.max_steps=60", "trainer.checkpoint_every=5"]
    child = subprocess.Popen(
        [sys.executable, *arguments, f"name={number.name}"], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    run_dir = Path(folders[1].removeprefix("runs_dir=")) / number.name
    while not checkpoints.checkpoints(run_dir / "checkpoints"):
        assert child.poll() is None
        time.sleep(0.2)
    child.send_signal(number)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    saved = checkpoints.checkpoints(run_dir / "checkpoints")[-1]
    assert f"stopped at step {checkpoints.step_of(saved)}; go on with: python train.py resume={run_dir}" in err
    assert "Traceback" not in err
    assert 0 < checkpoints.step_of(saved) < 60
    assert last_json(command(["train.py", f"resume={run_dir}"]))["steps"] == 60
    again = command(["train.py", f"resume={run_dir}"])
    assert again.returncode == 2
    assert "is finished" in again.stderr


@pytest.mark.slow
def test_the_issues_sweep_gives_four_runs_in_one_group(folders: list[str]) -> None:
    """Four W&B offline runs with their own rates and schedules, one table; started again it skips all four."""
    swept = ["schedule=constant,cosine", "optimizer.lr=1e-3,3e-3", "group=sweep", "logger=[wandb,csv]"]
    small = [override for override in SMALL if not override.startswith("logger")]
    done = command(["train.py", "-m", *small, *folders, *swept], env={**os.environ, "WANDB_MODE": "offline"})
    assert done.returncode == 0, done.stderr[-3000:]
    group = Path(folders[1].removeprefix("runs_dir=")) / "sweep"
    configs = [load(path.parent) for path in group.glob("*/config.yaml")]
    assert {(cfg.schedule._target_.split(".")[-1], cfg.optimizer.lr) for cfg in configs} == {
        (schedule, rate) for schedule in ("Constant", "Cosine") for rate in (1e-3, 3e-3)
    }
    assert len(list(group.glob("*/wandb/offline-run-*/run-*.wandb"))) == 4
    with (group / "comparison.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 4
    again = command(["train.py", "-m", *small, *folders, *swept])
    assert again.returncode == 0
    assert again.stdout.count("is finished: skipped") == 4

"""On a GPU: every strategy and precision follows the curve that a CPU takes in fp32, and a stopped run goes on to the bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from rfr.runs.folder import load, run_folder
from rfr.strategy.precision import native_precisions
from rfr.train.recipe import Recipe
from rfr.train.run import train
from tests.helpers.runs import SMALL, column, command, largest_difference, last_json, small_config, stopped_at, train_small
from tests.strategy.test_precision import CHECKPOINTED, COMPILED, CURVE, OFFLOADED, TOLERANCES, ZERO

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED LOUDLY: there is no CUDA GPU"),
]
SPLIT, STOCHASTIC = ["optimizer=split_adamw"], ["optimizer=stochastic_adamw"]
RUNS = [
    *[("fp32", layout) for layout in ([], *ZERO, CHECKPOINTED)],
    *[("fp16", layout) for layout in ([], *ZERO, *OFFLOADED, CHECKPOINTED, COMPILED)],
    *[("bf16", layout) for layout in ([], *ZERO)],
    *[("bf16_pure", layout) for layout in (SPLIT, [*SPLIT, *CHECKPOINTED])],
]


@pytest.fixture(autouse=True)
def _one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed keeps to the first group of processes that it sees; these runs share one."""
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)


@pytest.fixture(scope="module")
def on_a_cpu(folders: list[str]) -> list[float]:
    """The losses there, in fp32; in a process of its own, since DeepSpeed asks once what it runs on."""
    settings = ["train.py", *SMALL, *folders, *CURVE, "name=cpu"]
    done = command(settings, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    return column(Path(last_json(done)["run_dir"]), "train/loss")


@pytest.mark.parametrize(("precision", "layout"), RUNS, ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_every_strategy_and_precision_follows_the_curve_of_a_cpu(
    folders: list[str], on_a_cpu: list[float], precision: str, layout: list[str]
) -> None:
    assert "fp16" in native_precisions()
    name = "-".join([precision, *layout]).replace("=", "-").replace("/", "-")
    losses = column(train_small(folders, name, *CURVE, f"precision={precision}", *layout)[0], "train/loss")
    first, each = TOLERANCES[precision]
    assert len(losses) == 20
    assert losses[0] == pytest.approx(on_a_cpu[0], rel=first)
    assert losses == pytest.approx(on_a_cpu, rel=each)


@pytest.mark.parametrize(
    "settings",
    [["precision=fp16"], ["precision=bf16_pure", *SPLIT], ["precision=bf16_pure", *STOCHASTIC],
     ["precision=fp16", "strategy=deepspeed_2"], ["precision=bf16", "strategy=deepspeed_3"]],
    ids=" ".join,
)  # fmt: skip
def test_a_stopped_run_resumes_bit_for_bit(folders: list[str], settings: list[str]) -> None:
    name = "-".join(settings).replace("=", "-")
    dropout = ["model.dropout=0.1", "trainer.max_steps=10", "trainer.validate_every=5", *settings]
    whole, _ = train_small(folders, f"whole-{name}", *dropout)
    cfg = small_config(folders, f"stopped-{name}", *dropout)
    run_dir = run_folder(cfg)
    with stopped_at(4):
        train(Recipe.of(cfg), run_dir)
    train(Recipe.of(load(run_dir)), run_dir)
    assert column(run_dir, "train/loss") == column(whole, "train/loss")
    assert column(run_dir, "grad_norm") == column(whole, "grad_norm")
    assert largest_difference(whole, run_dir) == 0

"""The learning rate of every step of a real run: under accumulation, over a resume, and where fp16 skips steps."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rfr.runs.folder import load, run_folder
from rfr.strategy import precision
from rfr.train.recipe import Recipe
from rfr.train.run import train
from tests.conftest import ROOT
from tests.helpers.runs import column, small_config, stopped_at

SCHEDULES = sorted(path.stem for path in (ROOT / "conf" / "schedule").glob("*.yaml"))
PLAIN = ["samples.prompts=0", "trainer.validate_every=9", "trainer.accumulate=2", "trainer.micro_batch=2", "trainer.max_steps=9"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_kept_under_accumulation_and_over_a_resume(folders: list[str], name: str) -> None:
    assert len(SCHEDULES) == 8
    cfg = small_config(folders, f"schedule-{name}", *PLAIN, f"schedule={name}")
    run_dir = run_folder(cfg)
    with stopped_at(4):
        train(Recipe.of(cfg), run_dir)
    train(Recipe.of(load(run_dir)), run_dir)
    schedule = instantiate(cfg.schedule)
    rates = column(run_dir, "lr")
    assert rates == pytest.approx([cfg.optimizer.lr * schedule(step, 9) for step in range(9)], rel=1e-6)
    assert len(set(rates)) > 2 or name == "constant"


FP16 = ["precision=fp16", "trainer.validation_rows=1", "evaluation.stories=0", "schedule=linear", "schedule.warmup_steps=0"]


def _check_skips(run_dir: Path, peak: float) -> None:
    """The scale fell at the steps that were skipped, and after them the rate was what it had been."""
    rates, scales = column(run_dir, "lr"), column(run_dir, "loss_scale")
    assert len(rates) == len(scales) == 9
    skipped = [after < before for before, after in pairwise(scales)]
    assert 1 <= sum(skipped) < 8, f"some steps were skipped and some were not: {scales}"
    expected, taken = [], 0
    for was_skipped in [*skipped, False]:
        expected.append(peak * (1 - taken / 9))
        taken += not was_skipped
    assert rates == pytest.approx(expected, rel=1e-6)


def test_a_step_that_fp16_skips_does_not_spend_the_schedule(
    folders: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "native_precisions", lambda: ["fp16"])  # slow where the processor lacks it, but right
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**19))  # too large at first
    cfg = small_config(folders, "skipping", *PLAIN, *FP16)
    train(Recipe.of(cfg), run_folder(cfg))
    _check_skips(run_folder(cfg), cfg.optimizer.lr)


CHILD = """
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from deepspeed.accelerator import get_accelerator
from rfr import config
from rfr.strategy import precision
from rfr.train.recipe import Recipe
from rfr.train.run import train

precision.native_precisions = lambda: ["fp16"]
type(get_accelerator()).is_fp16_supported = lambda self: True
train(Recipe.of(config.load_yaml(Path(sys.argv[1]))), Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_a_step_that_deepspeed_skips_does_not_spend_the_schedule(folders: list[str], tmp_path: Path, stage: int) -> None:
    several = [f"strategy=deepspeed_{stage}", "+strategy.initial_scale_power=24", "+strategy.hysteresis=1"]
    cfg = small_config(folders, f"skipping-{stage}", *PLAIN, *FP16, *several)
    run_dir, handover = run_folder(cfg), tmp_path / "config.yaml"
    OmegaConf.save(cfg, handover)
    done = subprocess.run([sys.executable, "-c", CHILD, handover, run_dir], cwd=ROOT, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    _check_skips(run_dir, cfg.optimizer.lr)

"""`find_lr=100`: so many steps of a learning-rate range test; a rate, a plot, and nothing else is left."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback

from rfr.errors import RunFailed
from rfr.loggers.loggers import quiet
from rfr.model.range_test import BELOW_THE_TURN, HIGH, Ramp, seen_enough, smoothed, suggested
from rfr.report.line_plot import lines_page
from rfr.strategy.ranks import ranks
from rfr.train.build import build
from rfr.train.checkpoints import inside_accumulation
from rfr.train.learner import Learner
from rfr.train.run import fit


def show(cfg: DictConfig) -> None:
    """Print the suggestion and leave `find_lr.html` beside the runs.

    Raises:
        UserError: too few steps.
        ValueError: the loss never fell.
    """
    quiet()
    rates, losses = range_test(cfg)
    rate = suggested(rates, losses)
    page = Path(cfg.runs_dir) / "find_lr.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    curves = {"loss": (rates, losses), "smoothed": (rates, smoothed(losses).tolist())}
    told = f"The loss turned at {BELOW_THE_TURN * rate:.2g}; half of that is optimizer.lr={rate:.2g}."
    page.write_text(lines_page("Learning-rate range test", told, curves, log_x=True, mark=rate))
    if ranks().rank == 0:
        print(f"{told} The plot: {page}")
        print(json.dumps({"optimizer.lr": float(f"{rate:.2g}"), "steps": len(losses), "plot": str(page)}))


def range_test(cfg: DictConfig) -> tuple[list[float], list[float]]:
    """Rates, and the loss of the optimizer batch that each was used on, until the loss turns for good."""
    steps, ramp = cfg.find_lr, Ramp()
    test: dict[str, Any] = {
        "schedule": {"_target_": f"{Ramp.__module__}.{Ramp.__qualname__}"}, "optimizer": {"lr": HIGH},
        "trainer": {"max_steps": steps},
    }  # fmt: skip
    cfg = OmegaConf.create({**OmegaConf.to_container(cfg), "schedule": {}})  # type: ignore[dict-item]
    watch = _Losses()
    with tempfile.TemporaryDirectory() as nowhere:
        job = build(OmegaConf.merge(cfg, test), Path(nowhere))  # type: ignore[arg-type]
        with suppress(RunFailed):  # a loss that is not a number: seen enough
            fit(job, [watch], lasting=False)
    return [HIGH * ramp(step, steps) for step in range(len(watch.losses))], watch.losses


class _Losses(Callback):
    """Of every optimizer step; ends the run once they have turned."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, Learner)
        if not inside_accumulation(trainer):
            self.losses.append(module.step_loss)
            trainer.should_stop = seen_enough(self.losses)

"""`find_lr=100`: a learning-rate range test: the rate grows for 100 steps, or until the loss does.

It suggests a rate and leaves a plot; the trained model is thrown away (Smith 2015, arXiv:1506.01186).
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from rfr.errors import RunFailed, UserError
from rfr.report.line_plot import lines_page
from rfr.strategy.ranks import ranks
from rfr.train.build import build
from rfr.train.checkpoints import inside_accumulation
from rfr.train.learner import Learner
from rfr.train.recipe import Recipe
from rfr.train.run import fit
from rfr.train.summary import print_start
from rfr.utils.quiet import silence_libraries

LOW, HIGH = 1e-7, 10.0  # the best rate of any model lies between them
BELOW_THE_TURN = 2.0
RISEN = 0.05
DIVERGED, LOST = 2.0, 0.2


def find_lr(recipe: Recipe, steps: int) -> None:
    """Print the suggested rate and leave `find_lr.html` beside the runs.

    Raises:
        UserError: too few steps.
        UserError: the loss never fell.
        UserError: the run would learn from own stories, whose loss tells nothing of the rate.
    """
    if recipe.rollouts is not None:
        raise UserError("find_lr looks at the loss of people's stories: leave out rollouts=own")
    silence_libraries()
    rates, losses = range_test(recipe, steps)
    rate = suggest_lr(rates, losses)
    page = recipe.runs_dir / "find_lr.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    curves = {"loss": (rates, losses), "smoothed": (rates, smoothed(losses).tolist())}
    finding = f"The loss turned at {BELOW_THE_TURN * rate:.2g}; half of that is optimizer.lr={rate:.2g}."
    page.write_text(lines_page("Learning-rate range test", finding, curves, log_x=True, mark=rate))
    if ranks().rank == 0:
        print(f"{finding} The plot: {page}")
        print(json.dumps({"optimizer.lr": float(f"{rate:.2g}"), "steps": len(losses), "plot": str(page)}))


def range_test(recipe: Recipe, steps: int) -> tuple[list[float], list[float]]:
    """Rates, and the loss of the optimizer batch that each was used on, until the loss turns for good."""
    ramp, watch = Ramp(), _Losses()
    test = replace(
        recipe,
        schedule=ramp,
        make_optimizer=partial(recipe.make_optimizer, lr=HIGH),
        trainer=replace(recipe.trainer, max_steps=steps),
    )
    with tempfile.TemporaryDirectory() as nowhere:
        run = build(test, Path(nowhere))
        print_start(run)
        with suppress(RunFailed):  # the loss is not a number: the curve is long enough
            fit(run, [watch], persist=False)
    return [HIGH * ramp(step, steps) for step in range(len(watch.losses))], watch.losses


class _Losses(Callback):
    """Records the loss of every optimizer step; ends the run once the losses have turned."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, Learner)
        if not inside_accumulation(trainer):
            self.losses.append(module.step_loss)
            trainer.should_stop = has_diverged(self.losses)


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """From `low` of the top rate to 1, by the same factor at every step."""

    low: float = LOW / HIGH

    def __call__(self, step: int, total: int) -> float:
        return float(self.low ** (1 - min(step, total - 1) / max(1, total - 1)))


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """A mean over a window around each step (a twelfth of the steps, 3 at least), which does not lag as a running one does."""
    window = max(3, len(losses) // 12) | 1  # odd, so that it has a middle
    ends = np.pad(np.asarray(losses, dtype=float), window // 2, mode="edge")
    return np.convolve(ends, np.ones(window) / window, mode="valid")


def suggest_lr(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Half the rate at which the smoothed loss turned.

    The loss turns where it rises from its lowest value by more than its noise and by a twentieth of its fall. The curve after
    that point tells nothing: Adam's steps are bounded, so the loss often stays there for long.

    With a quadratic loss of curvature h, gradient descent diverges above a rate of 2 / h, where the loss turns, and is fastest at
    1 / h.

    Raises:
        UserError: the loss never fell, or never turned.
    """
    curve = smoothed(losses)
    noise = float(np.std(np.diff(losses[: max(3, len(losses) // 10)])))
    if not curve.min() < curve[0] - 2 * noise:
        raise UserError("the loss never fell: is there anything to learn, and are there enough steps? find_lr=200 takes more")
    lowest = int(curve.argmin())
    risen = curve[lowest:] > curve[lowest] + max(RISEN * (curve[0] - curve[lowest]), noise)
    turn = lowest + int(risen.argmax()) if risen.any() else len(curve) - 1
    while turn > lowest and curve[turn - 1] < curve[turn]:
        turn -= 1
    if turn == len(curve) - 1:
        raise UserError(f"the loss still fell at a rate of {rates[-1]:.3g}: find_lr=200 takes more steps")
    return rates[turn] / BELOW_THE_TURN


def has_diverged(losses: Sequence[float]) -> bool:
    """The loss has turned for good: it is twice the lowest, and a good part of what was won is lost."""
    if not math.isfinite(losses[-1]):
        return True
    if len(losses) <= 10:
        return False
    curve = smoothed(losses)
    lowest = curve.min()
    return bool(curve[-1] > max(DIVERGED * lowest, lowest + LOST * (curve[0] - lowest)))

"""The learning-rate finder finds planted rates; the preview draws the schedule that training then follows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from rfr.commands.find_lr import HIGH, Ramp, has_diverged, range_test, smoothed, suggest_lr
from rfr.commands.preview import rates
from rfr.errors import UserError
from rfr.report.line_plot import lines_page
from rfr.train.recipe import Recipe
from tests.helpers.runs import SMALL, column, small_config, train_small

SMALLEST = tuple(override for override in SMALL if not override.startswith(("trainer.", "schedule.")))


def _descent(curvatures: list[float], steps: int, noise: float = 0.0, seed: int = 0) -> tuple[list[float], list[float]]:
    """Gradient descent on sum(h x^2) / 2 with a growing rate. With noise it is above a floor, as a model's loss is, and no batch
    is like another."""
    h, luck, ramp = np.array(curvatures), np.random.default_rng(seed), Ramp()
    x, tried, losses = 2 / np.sqrt(h * len(h)), [], []
    for step in range(steps):
        rate = HIGH * ramp(step, steps)
        tried.append(rate)
        losses.append(float((h * x**2).sum() / 2) + (1 + noise * luck.normal() if noise else 0))
        x = x - rate * (h * x + noise * luck.normal(size=len(h)) * np.sqrt(h))
        if has_diverged(losses):
            break
    return tried, losses


@pytest.mark.parametrize("steps", [60, 100, 300])
@pytest.mark.parametrize("curvature", [0.5, 7.0, 300.0, 2e4])
def test_find_lr_finds_a_planted_rate_within_a_factor_of_two(curvature: float, steps: int) -> None:
    """Of a quadratic loss of curvature h the best rate is 1 / h."""
    rate = suggest_lr(*_descent([curvature], steps))
    assert 0.5 < rate * curvature < 2, rate * curvature


@pytest.mark.parametrize("curvature", [5.0, 300.0, 2e4])
def test_noise_seldom_misleads_it(curvature: float) -> None:
    """Where no batch is like another, nine times in ten."""
    rates = []
    for seed in range(40):
        with suppress(UserError):  # it says so where it can't tell
            rates.append(curvature * suggest_lr(*_descent([curvature], 100, 0.03, seed)))
    assert len(rates) >= 38
    assert sum(0.5 < rate < 2 for rate in rates) >= 36


def test_the_steepest_direction_sets_the_rate() -> None:
    """Of several the best constant rate is 2 / (largest + smallest)."""
    assert 0.5 < suggest_lr(*_descent([100.0, 30.0, 10.0], 100)) * 110 / 2 < 2


def test_the_test_ends_when_the_loss_has_turned() -> None:
    tried, _ = _descent([300.0], 100)
    assert tried[-1] < HIGH / 50, "most of the rates above the best were never tried"
    assert has_diverged([3.0, float("nan")])
    assert not has_diverged([3.0, 2.9])


def test_a_loss_that_never_fell_suggests_nothing() -> None:
    luck = np.random.default_rng(0)
    with pytest.raises(UserError, match="the loss never fell"):
        suggest_lr([Ramp()(step, 100) for step in range(100)], (5 + luck.normal(size=100)).tolist())
    with pytest.raises(UserError, match="still fell at a rate of 1:"):
        suggest_lr([Ramp()(step, 100) for step in range(100)], list(np.linspace(5, 1, 100)))


def test_smoothing_does_not_lag() -> None:
    v_shaped = [abs(step - 50.0) for step in range(100)]
    assert int(np.argmin(smoothed(v_shaped))) == 50
    assert len(smoothed(v_shaped)) == 100


@pytest.mark.slow
def test_the_suggested_rate_beats_others(
    folders: list[str], command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """A quarter of the rate learns less in as many steps, and four times the rate does, too."""
    code, out, err = command("train", *SMALLEST, *folders, "find_lr=100", "trainer.accumulate=2")
    assert code == 0, err
    result = json.loads(out.strip().splitlines()[-1])
    rate = result["optimizer.lr"]
    assert "optimizer.lr=" in Path(result["plot"]).read_text()
    assert list(Path(result["plot"]).parent.iterdir()) == [Path(result["plot"])], "nothing else is left"
    settings = ["trainer.max_steps=100", "trainer.validate_every=100", "trainer.accumulate=2", "schedule.warmup_steps=10"]
    losses = [
        train_small(folders, f"at-{factor}", *settings, f"optimizer.lr={factor * rate}")[1]["val/nll_per_token"]
        for factor in (0.25, 1, 4)
    ]
    assert losses[1] == min(losses), (rate, losses)


def test_nobody_is_told_of_it(folders: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On W&B it would be a run among the others."""
    monkeypatch.setattr("rfr.train.run._loggers", lambda job: pytest.fail("a logger was made"))
    rates, losses = range_test(Recipe.of(small_config(folders, "untold", "logger=[wandb,csv]")), 20)
    assert len(rates) == len(losses) >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("find_lr=3",), "find_lr must be a whole number, 20 or more, or null, not 3"),
        (("find_lr=100", "trainer.ranks=2"), "find_lr tests in one process"),
        (("find_lr=100", "resume=runs/x"), "leave out -m and resume="),
        (("preview=true", "schedule.warmup_steps=99999"), "must be below trainer.max_steps"),
    ],
)
def test_bad_input(command: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], message: str) -> None:
    code, _, err = command("train", *SMALLEST, *arguments)
    assert code == 2, err
    assert message in err


def test_the_preview_is_what_training_follows(folders: list[str]) -> None:
    run_dir, _ = train_small(folders, "previewed", "schedule=wsd", "schedule.warmup_steps=2")
    steps, curve = rates(Recipe.of(small_config(folders, "previewed", "schedule=wsd", "schedule.warmup_steps=2")))
    assert steps == [0, 1, 2, 3, 4, 5]
    assert curve == pytest.approx(column(run_dir, "lr"))


def test_a_long_run_is_drawn_by_some_of_its_steps(folders: list[str]) -> None:
    steps, curve = rates(Recipe.of(small_config(folders, "long", "trainer.max_steps=100000")))
    assert 400 <= len(steps) <= 402
    assert steps[-1] == 99_999
    assert curve[-1] == pytest.approx(0.1 * 6e-3, rel=1e-3)


def test_the_preview_of_a_sweep_holds_every_point(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, err = command("train", "-m", *SMALLEST, "preview=true", "schedule=cosine,linear,wsd", "optimizer.lr=1e-3,2e-3")
    assert code == 0, err
    page = Path("runs/schedule.html").read_text()
    assert page.count("<polyline") == 6
    assert "schedule=wsd optimizer.lr=0.002" in page
    assert not list(Path("runs").glob("*/config.yaml"))


def test_names_on_a_plot_are_text() -> None:
    page = lines_page("<b>", "a & b", {"<script>": ([0.0, 1.0], [3.0, 3.0])})
    assert "<script>" not in page
    assert "<b>" not in page
    assert len(re.findall(r"points='([^']+)'", page)) == 1

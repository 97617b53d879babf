"""Learning-rate schedules, counted in optimizer steps: against torch's and transformers' own, where those have them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as theirs
from transformers import get_inverse_sqrt_schedule, get_wsd_schedule

from rfr import config
from rfr.errors import UserError
from rfr.optimizer.schedule import (
    Constant,
    Cosine,
    CosineRestarts,
    InverseSqrt,
    Linear,
    OneCycle,
    Polynomial,
    Schedule,
    Warmup,
    WarmupStableDecay,
)
from tests.conftest import ROOT

STEPS, WARMUP = 40, 4
WITH_WARMUP: list[Warmup] = [
    Constant(warmup_steps=WARMUP), Linear(warmup_steps=WARMUP), Polynomial(warmup_steps=WARMUP), Cosine(warmup_steps=WARMUP),
    CosineRestarts(warmup_steps=WARMUP), InverseSqrt(warmup_steps=WARMUP), WarmupStableDecay(warmup_steps=WARMUP),
]  # fmt: skip


@pytest.mark.parametrize("schedule", WITH_WARMUP, ids=lambda schedule: type(schedule).__name__)
def test_warm_up_wastes_no_step_and_starts_the_curve_at_the_peak(schedule: Warmup) -> None:
    assert [schedule(step, STEPS) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(0 <= schedule(step, STEPS) <= 1 for step in range(STEPS + 3))


def test_golden_curves() -> None:
    assert _curve(Linear(), 5) == [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    assert _curve(Polynomial(power=2, final=0.1), 4) == [1.0, 0.6062, 0.325, 0.1562, 0.1]
    assert _curve(Cosine(final=0.1), 4) == [1.0, 0.8682, 0.55, 0.2318, 0.1]
    assert _curve(CosineRestarts(cycles=2, growth=2, final=0), 6) == [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 0.0]
    assert _curve(InverseSqrt(timescale=3), 9) == [1, 0.866, 0.7746, 0.7071, 0.6547, 0.6124, 0.5774, 0.5477, 0.5222, 0.5]
    assert _curve(WarmupStableDecay(decay_share=0.5), 8) == [1, 1, 1, 1, 1, 0.5, 0.2929, 0.134, 0.0]
    up, down = [0, 0.25, 0.75, 1], [0.933, 0.75, 0.5, 0.25, 0.067, 0, 0]
    assert _curve(OneCycle(up_share=0.4, start=0, final=0), 10) == [*up, *down]
    assert set(_curve(Constant(), 7)) == {1.0}
    assert Linear(final=0.5)(10, 10) == 0.5


def _curve(schedule: Schedule, total: int) -> list[float]:
    return [round(schedule(step, total), 4) for step in range(total + 1)]


def _wsd(optimizer: Optimizer) -> Any:
    return get_wsd_schedule(optimizer, num_warmup_steps=0, num_stable_steps=30, num_decay_steps=10, decay_type="1-sqrt")


REFERENCES: list[tuple[Schedule, Callable[[Optimizer], Any]]] = [
    (Constant(), lambda o: theirs.ConstantLR(o, factor=1.0)),
    (Linear(final=0.2), lambda o: theirs.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=STEPS)),
    (Polynomial(power=3), lambda o: theirs.PolynomialLR(o, total_iters=STEPS, power=3)),
    (Cosine(final=0.1), lambda o: theirs.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.1)),
    (CosineRestarts(cycles=4, final=0.1), lambda o: theirs.CosineAnnealingWarmRestarts(o, T_0=10, eta_min=0.1)),
    (CosineRestarts(cycles=2, growth=3, final=0), lambda o: theirs.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=3)),
    (InverseSqrt(timescale=7), lambda o: get_inverse_sqrt_schedule(o, num_warmup_steps=0, timescale=7)),
    (WarmupStableDecay(decay_share=0.25), _wsd),
    (OneCycle(), lambda o: theirs.OneCycleLR(o, max_lr=1.0, total_steps=STEPS, final_div_factor=1e4)),
]


@pytest.mark.parametrize(("schedule", "reference"), REFERENCES, ids=lambda value: type(value).__name__)
def test_schedules_are_those_of_torch_and_transformers(schedule: Schedule, reference: Callable[[Optimizer], Any]) -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = reference(optimizer), []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert [schedule(step, STEPS) for step in range(STEPS)] == pytest.approx(rates, abs=1e-9)
    assert len(set(rates)) > 8 or isinstance(schedule, Constant), "a curve, not a line"


def test_every_schedule_has_a_config_that_builds_it() -> None:
    run = {"trainer": {"max_steps": 1000}}
    configs = {
        path.stem: instantiate(config.resolve(OmegaConf.create({**run, "schedule": OmegaConf.load(path)})).schedule)
        for path in (ROOT / "conf" / "schedule").glob("*.yaml")
    }
    assert sorted(configs) == [
        "constant", "cosine", "cosine_restarts", "inverse_sqrt", "linear", "one_cycle", "polynomial", "wsd",
    ]  # fmt: skip
    assert len({type(schedule) for schedule in configs.values()}) == 8
    for schedule in configs.values():
        assert max(schedule(step, 1000) for step in range(1000)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("schedule", WITH_WARMUP, ids=lambda schedule: type(schedule).__name__)
def test_a_warm_up_longer_than_the_run_is_refused(schedule: Warmup) -> None:
    with pytest.raises(UserError, match=r"trainer\.max_steps=4"):
        schedule(0, WARMUP)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Polynomial(power=0), "power"), (lambda: CosineRestarts(cycles=0), "cycles"),
        (lambda: CosineRestarts(cycles=9)(0, 5), "leaves a cycle without a step"), (lambda: InverseSqrt(), "timescale"),
        (lambda: WarmupStableDecay(decay_share=0), "decay_share"), (lambda: OneCycle(up_share=1), "up_share"),
        (lambda: Polynomial(power=math.nan), "power"), (lambda: CosineRestarts(growth=-1), "growth"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()

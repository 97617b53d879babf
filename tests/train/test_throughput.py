"""Speed is that of training alone: a clock that is told what each thing takes finds nothing else in any figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rfr.train import best_model, callbacks, checkpoints, run
from rfr.train.learner import Learner
from tests.helpers.runs import column, stopped_at, train_small

STEP_S, FIRST_STEP_S = 2.0, 50.0  # a training step; the first one of a process


class FalseClock:
    """Stands still but for what is said to take time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    def taking(self, seconds: float, real: Callable[..., Any]) -> Callable[..., Any]:
        def slowly(*given: Any, **named: Any) -> Any:
            self.now += seconds
            return real(*given, **named)

        return slowly


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FalseClock:
    clock = FalseClock()
    steps: list[float] = []
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(perf_counter=clock.perf_counter, monotonic=callbacks.time.monotonic))
    real = Learner.training_step

    def training_step(self: Learner, *given: Any) -> Any:
        clock.now += STEP_S if steps else FIRST_STEP_S
        steps.append(clock.now)
        return real(self, *given)

    monkeypatch.setattr(Learner, "training_step", training_step)
    monkeypatch.setattr(Learner, "validation_step", clock.taking(1e3, Learner.validation_step))
    monkeypatch.setattr(callbacks, "sample", clock.taking(1e4, callbacks.sample))
    monkeypatch.setattr(best_model, "export", clock.taking(1e5, best_model.export))
    monkeypatch.setattr(checkpoints.Checkpoints, "save", clock.taking(1e6, checkpoints.Checkpoints.save))
    monkeypatch.setattr(run, "build", clock.taking(1e7, run.build))
    return clock


def _speeds(run_dir: Path) -> tuple[float, list[float], list[float]]:
    """Tokens per second of result.json and of each row, seconds of each step."""
    result = json.loads((run_dir / "result.json").read_text())
    return result["tokens_per_second"], column(run_dir, "tokens_per_second"), column(run_dir, "step_seconds")


@pytest.mark.parametrize("validate_first", [True, False])
def test_nothing_but_training_counts(folders: list[str], clock: FalseClock, validate_first: bool) -> None:
    settings = ["trainer.accumulate=1", "trainer.checkpoint_every=2", "trainer.keep_best=true", "trainer.max_steps=7"]
    run_dir, _ = train_small(folders, f"clock-{validate_first}", *settings, f"trainer.validate_first={validate_first}")
    assert clock.now > 1e7 + 3e6
    tokens, (in_result, rows, steps) = column(run_dir, "tokens"), _speeds(run_dir)
    assert steps == [FIRST_STEP_S] + [STEP_S] * 6
    expected = [
        tokens[0] / FIRST_STEP_S,
        *((so_far - tokens[0]) / (STEP_S * count) for count, so_far in enumerate(tokens[1:], 1)),
    ]
    assert rows == pytest.approx(expected, rel=1e-5)
    assert in_result == pytest.approx(expected[-1], abs=0.06)
    mfu = column(run_dir, "mfu")
    assert [share / speed for share, speed in zip(mfu, rows, strict=True)] == pytest.approx([mfu[0] / rows[0]] * 7, rel=1e-5)


def test_a_resumed_run_counts_its_own_steps(folders: list[str], clock: FalseClock) -> None:
    settings = ["trainer.accumulate=1", "trainer.checkpoint_every=2", "trainer.max_steps=6"]
    with stopped_at(3):
        train_small(folders, "clock-resumed", *settings)
    run_dir, _ = train_small(folders, "clock-resumed", *settings)
    tokens, (in_result, _, steps) = column(run_dir, "tokens"), _speeds(run_dir)
    assert max(steps) == FIRST_STEP_S
    assert in_result == pytest.approx((tokens[-1] - tokens[-3]) / (2 * STEP_S), rel=1e-3)

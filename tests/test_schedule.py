"""Learning-rate schedules, counted in optimizer steps."""

from __future__ import annotations

import pytest

from rfr.model.schedule import Constant, Cosine, Linear, Warmup


@pytest.mark.parametrize("schedule", [Constant(warmup_steps=4), Linear(warmup_steps=4), Cosine(warmup_steps=4)])
def test_warm_up_wastes_no_step(schedule: Warmup) -> None:
    assert [schedule(step, 20) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_golden_curves() -> None:
    assert [round(Linear()(step, 5), 3) for step in range(6)] == [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    assert [round(Cosine(final=0.1)(step, 4), 4) for step in range(5)] == [1.0, 0.8682, 0.55, 0.2318, 0.1]
    assert {Constant()(step, 7) for step in range(7)} == {1.0}
    assert Linear(final=0.5)(10, 10) == 0.5


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_steps=10"):
        Constant(warmup_steps=10)(0, 10)

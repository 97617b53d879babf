"""Learning-rate schedules: (step, total) -> multiplier of the peak rate, counted in optimizer steps from 0.

Each warms up linearly over `warmup_steps` (multiplier (step + 1) / warmup_steps, so that no step is wasted at 0)
and then follows its curve over the progress p in [0, 1] of the steps that remain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int, int], float]


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """Base of all schedules.

    Raises:
        ValueError: (when called) the warm-up is as long as the run, or longer.
    """

    warmup_steps: int = 0

    def __call__(self, step: int, total: int) -> float:
        if not 0 <= self.warmup_steps < total:
            raise ValueError(f"schedule.warmup_steps={self.warmup_steps} must be below trainer.max_steps={total}")
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return self.curve(min(1.0, (step - self.warmup_steps) / (total - self.warmup_steps)))

    def curve(self, progress: float) -> float:
        """The multiplier at progress in [0, 1] after warm-up; here: constant."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Constant(Warmup):
    """1 throughout."""


@dataclass(frozen=True, kw_only=True)
class Linear(Warmup):
    """From 1 down to `final` in a straight line."""

    final: float = 0.0

    def curve(self, progress: float) -> float:
        return 1 - (1 - self.final) * progress


@dataclass(frozen=True, kw_only=True)
class Cosine(Warmup):
    """From 1 down to `final` along half a cosine (Loshchilov & Hutter 2017, without restarts)."""

    final: float = 0.1

    def curve(self, progress: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2

"""Learning-rate schedules: (step, total steps) -> multiplier of the peak rate; steps count from 0.

Most warm up linearly over `warmup_steps` (multiplier (step + 1) / warmup_steps, so that no step is wasted at 0) and then follow
their curve over the steps that remain. `final` is the share of the peak rate that a curve ends at.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated

from annotated_types import Ge, Le

from rfr.errors import UserError
from rfr.ranges import AboveZero, Count, Fraction, PositiveShare, Share, Whole

Schedule = Callable[[int, int], float]
MOST_GROWTH = 30.0  # logarithm of a cycle's length over the first one's


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """Base of the schedules that begin with a linear warm-up.

    Raises:
        UserError: (when called) the warm-up is as long as the run, or longer.
    """

    warmup_steps: Whole = 0

    def __call__(self, step: int, total: int) -> float:
        if not 0 <= self.warmup_steps < total:
            raise UserError(f"schedule.warmup_steps={self.warmup_steps} must be below trainer.max_steps={total}")
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return self.curve(min(step, total) - self.warmup_steps, total - self.warmup_steps)

    @abstractmethod
    def curve(self, step: int, total: int) -> float:
        """The multiplier at `step` of the `total` steps after the warm-up."""


@dataclass(frozen=True, kw_only=True)
class Constant(Warmup):
    """1 throughout."""

    def curve(self, step: int, total: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Polynomial(Warmup):
    """From 1 down to `final` as (1 - progress) ^ power: 1 is a straight line, 2 falls sooner and lands softly."""

    power: AboveZero = 2.0
    final: Fraction = 0.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise UserError(f"schedule.power must be above 0, not {self.power}")

    def curve(self, step: int, total: int) -> float:
        return _between(1.0, self.final, 1 - (1 - step / total) ** self.power)


@dataclass(frozen=True, kw_only=True)
class Linear(Warmup):
    """From 1 down to `final` in a straight line."""

    final: Fraction = 0.0

    def curve(self, step: int, total: int) -> float:
        return _between(1.0, self.final, step / total)


@dataclass(frozen=True, kw_only=True)
class Cosine(Warmup):
    """From 1 down to `final` along half a cosine (Loshchilov & Hutter 2017, without restarts)."""

    final: Fraction = 0.1

    def curve(self, step: int, total: int) -> float:
        return _between(1.0, self.final, _half_cosine(step / total))


@dataclass(frozen=True, kw_only=True)
class CosineRestarts(Warmup):
    """SGDR (Loshchilov & Hutter 2017): `cycles` half cosines from 1 to `final`, each `growth` times as long as the one before."""

    cycles: Annotated[int, Ge(1), Le(1000)] = 3
    growth: AboveZero = 1.0
    final: Fraction = 0.1

    def __post_init__(self) -> None:
        if not (type(self.cycles) is int and self.cycles >= 1 and self.growth > 0):
            raise UserError(f"schedule.cycles={self.cycles} must be 1 or more, schedule.growth={self.growth} above 0")
        if self.cycles * math.log(self.growth) > MOST_GROWTH:
            raise UserError(f"schedule.growth={self.growth} makes the last of schedule.cycles={self.cycles} longer than any run")

    def curve(self, step: int, total: int) -> float:
        lengths = [self.growth**cycle for cycle in range(self.cycles)]
        ends = [round(total * end / sum(lengths)) for end in accumulate(lengths)]  # a restart falls on a step
        if len({0, *ends}) <= self.cycles:
            raise UserError(f"schedule.cycles={self.cycles} leaves a cycle without a step: there are {total} after the warm-up")
        cycle = min(bisect_right(ends, step), self.cycles - 1)
        start = ends[cycle - 1] if cycle else 0
        return _between(1.0, self.final, _half_cosine((step - start) / (ends[cycle] - start)))


@dataclass(frozen=True, kw_only=True)
class InverseSqrt(Warmup):
    """sqrt(s / (s + step)) after the warm-up, the Transformer's own schedule (Vaswani et al. 2017) where the time scale s is the
    warm-up (`timescale: null`). It knows no end, so a longer run is the same run longer."""

    timescale: Count | None = None

    def __post_init__(self) -> None:
        if not (self.timescale or self.warmup_steps) > 0:
            raise UserError("schedule=inverse_sqrt needs schedule.timescale or schedule.warmup_steps above 0")

    def curve(self, step: int, total: int) -> float:
        scale = self.timescale or self.warmup_steps
        return math.sqrt(scale / (scale + step))


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay(Warmup):
    """1 until the last `decay_share` of the run, then down to `final` as 1 - sqrt (Hu et al. 2024; shape: Hägele et al. 2024).

    A checkpoint from before the decay can be trained on for another number of steps: only the decay is lost.
    """

    decay_share: PositiveShare = 0.2
    final: Fraction = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.decay_share <= 1:
            raise UserError(f"schedule.decay_share must lie above 0 and not above 1, not {self.decay_share}")

    def curve(self, step: int, total: int) -> float:
        decaying = 1 - (total - step) / (self.decay_share * total)
        return _between(1.0, self.final, math.sqrt(max(0.0, decaying)))


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """Up from `start` to 1 over `up_share` of the run, then down to `final`, both along half a cosine (Smith & Topin 2018).

    The rise is the warm-up. Adam's betas stay as they are.
    """

    up_share: Share = 0.3
    start: Fraction = 0.04
    final: Fraction = 4e-6

    def __post_init__(self) -> None:
        if not 0 < self.up_share < 1:
            raise UserError(f"schedule.up_share must lie between 0 and 1, not {self.up_share}")

    def __call__(self, step: int, total: int) -> float:
        top, last = self.up_share * total - 1, max(1, total - 1)  # the last step that is taken is at `final`
        if step < top:
            return _between(self.start, 1.0, _half_cosine(step / top))
        return _between(1.0, self.final, _half_cosine((min(step, last) - max(0.0, top)) / (last - max(0.0, top))))


def _half_cosine(progress: float) -> float:
    """0 to 1, level at both ends."""
    return (1 - math.cos(math.pi * progress)) / 2


def _between(one: float, other: float, progress: float) -> float:
    return one + (other - one) * progress

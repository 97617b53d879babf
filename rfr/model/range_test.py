"""The learning-rate range test (Smith 2015, arXiv:1506.01186): the rate grows at every step until the loss does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOW, HIGH = 1e-7, 10.0  # rates between which the best one of any model lies
BELOW_THE_TURN = 2.0
RISEN = 0.05
DIVERGED, LOST = 2.0, 0.2


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


def suggested(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Half the rate at which the smoothed loss turned.

    That is where it began to rise from its lowest by more than noise and a twentieth of what it had fallen. What it does after
    that tells nothing: Adam, whose steps are bounded, often stays there for long.

    With a quadratic loss of curvature h gradient descent diverges above 2 / h, which is where its loss turns, and is fastest at
    1 / h.

    Raises:
        ValueError: the loss never fell, or never turned.
    """
    curve = smoothed(losses)
    noise = float(np.std(np.diff(losses[: max(3, len(losses) // 10)])))
    if not curve.min() < curve[0] - 2 * noise:
        raise ValueError("the loss never fell: is there anything to learn, and are there enough steps? find_lr=200 takes more")
    lowest = int(curve.argmin())
    risen = curve[lowest:] > curve[lowest] + max(RISEN * (curve[0] - curve[lowest]), noise)
    turn = lowest + int(risen.argmax()) if risen.any() else len(curve) - 1
    while turn > lowest and curve[turn - 1] < curve[turn]:
        turn -= 1
    if turn == len(curve) - 1:
        raise ValueError(f"the loss still fell at a rate of {rates[-1]:.3g}: find_lr=200 takes more steps")
    return rates[turn] / BELOW_THE_TURN


def seen_enough(losses: Sequence[float]) -> bool:
    """The loss has turned for good: it is twice the lowest, and a good part of what was won is lost."""
    if not math.isfinite(losses[-1]):
        return True
    if len(losses) <= 10:
        return False
    curve = smoothed(losses)
    lowest = curve.min()
    return bool(curve[-1] > max(DIVERGED * lowest, lowest + LOST * (curve[0] - lowest)))

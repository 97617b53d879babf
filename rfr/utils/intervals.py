"""95 % intervals of means and ratios over independent groups, such as threads, that hold for few groups, too.

A percentile bootstrap of few threads is too narrow: of 8 threads it covers the truth in 81 to 91 % of the draws. `make
bench-advice` measures the coverage of these intervals and writes it to docs/bench-advice.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import t as students_t

FEWEST_GROUPS = 5  # below, no interval is given
ENOUGH_GROUPS = 20  # below, a report claims nothing
WORKING_POWER = 1.2  # a group's sum varies like size^1.2: between independent members, 1, and members all alike, 2; by simulation


class Interval(NamedTuple):
    """Both ends of an interval; None where there are too few groups."""

    low: float | None
    high: float | None


UNKNOWN = Interval(None, None)


def too_few(count: int, what: str) -> str:
    """Why a report claims nothing of so many."""
    return f"too few to tell: {count} {what}, {ENOUGH_GROUPS} are needed"


def mean_interval(values: np.ndarray, *, fewest: int = FEWEST_GROUPS) -> Interval:
    """Of the mean of independent values: Student's t."""
    return ratio_interval(values, np.ones(len(values)), fewest=fewest)


def ratio_interval(
    sums: np.ndarray, sizes: np.ndarray, *, share: bool = False, fewest: int = FEWEST_GROUPS, level: float = 0.95
) -> Interval:
    """Of sum(sums) / sum(sizes), groups being independent.

    A ratio is a regression on a constant, weighted by the sizes, so `_interval` holds. A share gets Wilson's (1927) form, which
    does not leave [0, 1] and has a width where all hit; in place of the sample's size stands the effective one.

    Args:
        sums, sizes: shape (groups,); groups of size 0 are left out.
        share: whether the ratio is a share of hits, in [0, 1].
        fewest: groups below which there is no interval.
        level: how often it is to hold the truth.
    """
    kept = sizes > 0
    sums, sizes = sums[kept].astype(np.float64), sizes[kept].astype(np.float64)
    if len(sums) < fewest:
        return UNKNOWN
    ratio, variance, quantile = _estimate(sums / sizes, np.ones((len(sizes), 1)), sizes, level)
    if not share:
        return _symmetric(ratio, variance, quantile)
    spread = ratio * (1 - ratio)
    effective = spread / variance if min(spread, variance) > 1e-12 else sizes.sum() ** 2 / (sizes**2).sum()  # Kish's
    return _wilson(ratio, float(effective), quantile)


def intercept_interval(values: np.ndarray, covariate: np.ndarray) -> Interval:
    """Of a in values = a + b covariate, by least squares; both of shape (groups,)."""
    if len(values) < FEWEST_GROUPS:
        return UNKNOWN
    varies = np.ptp(covariate) > 0
    design = np.column_stack([np.ones(len(values)), covariate]) if varies else np.ones((len(values), 1))
    return _symmetric(*_estimate(values, design, np.ones(len(values)), level=0.95))


def _symmetric(estimate: float, variance: float, quantile: float) -> Interval:
    half = quantile * variance**0.5
    return Interval(estimate - half, estimate + half)


def _wilson(share: float, effective: float, quantile: float) -> Interval:
    square = quantile**2
    centre = (share + square / (2 * effective)) / (1 + square / effective)
    half = quantile / (1 + square / effective) * (share * (1 - share) / effective + square / (4 * effective**2)) ** 0.5
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def _estimate(values: np.ndarray, design: np.ndarray, weights: np.ndarray, level: float) -> tuple[float, float, float]:
    """The first coefficient of a weighted regression of groups' means, its variance, and the quantile of t for its interval.

    The variance is CR2, each residual divided by the root of 1 - its leverage; the degrees of freedom are Satterthwaite's under a
    working variance (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018). For equal weights and a constant it is Student's t.

    Args:
        values: shape (groups,).
        design: shape (groups, columns).
        weights: shape (groups,).
    """
    solve = np.linalg.pinv(design * weights[:, None] ** 0.5) * weights**0.5  # shape (columns, groups)
    coefficients = solve @ values
    leverage = np.clip(np.einsum("gc,cg->g", design, solve), 0, 1 - 1e-9)
    scale = solve[0] / np.sqrt(1 - leverage)
    variance = float(((scale * (values - design @ coefficients)) ** 2).sum())
    freedom = _degrees_of_freedom(scale, design, solve, weights ** (WORKING_POWER - 2))
    return float(coefficients[0]), variance, float(students_t.ppf((1 + level) / 2, freedom))


def _degrees_of_freedom(scale: np.ndarray, design: np.ndarray, solve: np.ndarray, working: np.ndarray) -> float:
    """trace(G)^2 / trace(G^2), G the covariance of the scaled residuals under the working variance.

    G = D (I - X A) W (I - X A)' D = L + Z M Z' with L diagonal and Z narrow, so nothing of shape (groups, groups) is made.
    """
    columns = design.shape[1]
    diagonal = scale**2 * working
    narrow = scale[:, None] * np.hstack([design, (solve * working).T])
    middle = np.block([[(solve * working) @ solve.T, -np.eye(columns)], [-np.eye(columns), np.zeros((columns, columns))]])
    product = middle @ (narrow.T @ narrow)
    trace = diagonal.sum() + np.trace(product)
    square = (diagonal**2).sum() + 2 * np.trace(middle @ (narrow.T * diagonal) @ narrow) + np.trace(product @ product)
    return float(trace**2 / square)

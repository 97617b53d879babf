"""Intervals hold the truth as often as they say, for few groups, too; and there is none for next to none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rfr.utils.intervals import UNKNOWN, WORKING_POWER, intercept_interval, mean_interval, ratio_interval


def test_of_values_of_one_size_it_is_students() -> None:
    values = np.random.default_rng(0).normal(size=7)
    expected = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)
    assert ratio_interval(values * 3, np.full(7, 3.0)) == pytest.approx(expected)
    assert intercept_interval(values, np.ones(7)) == pytest.approx(expected), "a covariate that does not vary explains nothing"


def _by_matrices(values: np.ndarray, design: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """CR2 and Satterthwaite's degrees of freedom with the matrices written out (Pustejovsky & Tipton 2018)."""
    scaling = np.diag(weights)
    solve = np.linalg.inv(design.T @ scaling @ design) @ design.T @ scaling
    hat = design @ solve
    residual = values - hat @ values
    scale = solve[0] / np.sqrt(1 - np.diag(hat))
    half = np.diag(scale) @ (np.eye(len(values)) - hat)
    covariance = half @ np.diag(weights ** (WORKING_POWER - 2)) @ half.T
    freedom = np.trace(covariance) ** 2 / (covariance**2).sum()
    width = stats.t.ppf(0.975, freedom) * np.sqrt(((scale * residual) ** 2).sum())
    estimate = float(solve[0] @ values)
    return estimate - width, estimate + width


def test_it_is_the_formula_written_out() -> None:
    generator = np.random.default_rng(1)
    sizes = np.exp(generator.normal(size=9))
    sums = sizes * generator.random(9)
    assert ratio_interval(sums, sizes) == pytest.approx(_by_matrices(sums / sizes, np.ones((9, 1)), sizes))
    words = generator.normal(size=9)
    gains = 0.3 + 0.5 * words + generator.normal(size=9)
    expected = _by_matrices(gains, np.column_stack([np.ones(9), words]), np.ones(9))
    assert intercept_interval(gains, words) == pytest.approx(expected)


@pytest.mark.parametrize(("groups", "least", "most"), [(8, 0.91, 0.99), (20, 0.92, 0.985)])
def test_it_holds_the_truth_where_few_groups_hold_most_of_the_members(groups: int, least: float, most: float) -> None:
    """As threads do: pairs grow with the square of the replies."""
    generator = np.random.default_rng(2)
    held = {"share": 0, "bootstrap": 0}
    for _ in range(600):
        sizes = np.ceil(np.exp(generator.normal(2, 1.2, size=groups)))
        chances = np.clip(generator.normal(0.62, 0.15, size=groups), 0, 1)
        sums = generator.binomial(sizes.astype(int), chances).astype(float)
        low, high = ratio_interval(sums, sizes, share=True)
        assert low is not None
        assert high is not None
        held["share"] += low <= 0.62 <= high
        drawn = generator.integers(groups, size=(200, groups))
        ends = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
        held["bootstrap"] += ends[0] <= 0.62 <= ends[1]
    assert least <= held["share"] / 600 <= most
    assert held["bootstrap"] / 600 < held["share"] / 600 - 0.02, "what was used before is too narrow"


def test_there_is_none_for_next_to_none() -> None:
    assert mean_interval(np.ones(4)) == UNKNOWN
    assert mean_interval(np.array([1.0, 2.0]), fewest=2) != UNKNOWN
    assert intercept_interval(np.ones(4), np.arange(4.0)) == UNKNOWN
    assert ratio_interval(np.array([1.0, 1, 1, 1, 0, 0]), np.array([1.0, 1, 1, 1, 0, 0])) == UNKNOWN, "empty groups do not count"


def test_where_all_hit_a_share_is_still_not_certain() -> None:
    low, high = ratio_interval(np.full(6, 2.0), np.full(6, 2.0), share=True)
    assert low is not None
    assert low < 0.7
    assert high == 1


def test_a_lower_level_is_narrower() -> None:
    values = np.random.default_rng(3).normal(size=12)
    (low, high), (lower, higher) = ratio_interval(values, np.ones(12), level=0.8), ratio_interval(values, np.ones(12))
    assert lower < low < high < higher  # type: ignore[operator]

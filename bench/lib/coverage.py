"""How often 95 % intervals hold the truth: threads drawn from a large pool, whose mean is the truth."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import product

import numpy as np

from rfr.data.replies import thread_stories
from rfr.demo.grammar import true_quality
from rfr.demo.subreddit import DemoSubreddit
from rfr.evaluate.pair_accuracy import CONDITIONS, RATIOS, karma_pairs
from rfr.records import Story
from rfr.reward.base import log_scores
from rfr.reward.confounders import words
from rfr.utils.intervals import Interval, intercept_interval, ratio_interval

POOL, DRAWS, SEED = 20_000, 2_000, 26
THREADS = (8, 20, 44, 100)
BOOTSTRAPPED, RESAMPLES = 200, 500  # of the draws, the widths that a percentile bootstrap would have
JUDGE_NOISE = 0.25  # of a judge that guesses the true quality, whose standard deviation is 0.24


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One row per thread of the pool: the sum and the size of a ratio, or the value and the covariate of a regression."""

    rows: np.ndarray
    kind: str  # "share", "ratio" or "intercept"

    def estimate(self, rows: np.ndarray) -> float:
        if self.kind != "intercept":
            return float(rows[:, 0].sum() / rows[:, 1].sum())
        values, covariate = rows.T
        spread = covariate - covariate.mean()
        return float(values.mean() - covariate.mean() * (spread @ values) / (spread @ spread))

    def interval(self, rows: np.ndarray) -> Interval:
        if self.kind == "intercept":
            return intercept_interval(rows[:, 0], rows[:, 1])
        return ratio_interval(rows[:, 0], rows[:, 1], share=self.kind == "share")


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often the interval of one quantity held the truth, for one number of threads."""

    quantity: str
    threads: int
    coverage: float
    no_interval: float  # share of the draws
    width: float
    percentile_width: float


def of_subreddit(seed: int, threads: int) -> dict[str, list[tuple[float, float]]]:
    """The rows of all quantities, by name, of a part of the pool."""
    generator = np.random.default_rng(seed)
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for thread in DemoSubreddit(threads=threads, seed=seed):
        stories = [story for story, reason in thread_stories(thread) if reason is None]
        if stories:
            _add_thread(rows, stories, generator)
    return rows


def _add_thread(rows: dict[str, list[tuple[float, float]]], stories: list[Story], generator: np.random.Generator) -> None:
    quality = np.array([true_quality(story.prompt, story.response) for story in stories])
    lengths, posted = words(stories), np.array([story.created_utc for story in stories], dtype=np.float64)
    one, other = (quality + JUDGE_NOISE * generator.normal(size=len(quality)) for _ in range(2))
    scores = {"a judge": one, "length": lengths, "earlier": -posted}
    for ratio in RATIOS:
        pairs = karma_pairs(stories, ratio)
        for condition, keep in CONDITIONS.items():
            kept = pairs.where(keep(pairs, lengths, posted))
            hits = {name: _hits(score, kept.better, kept.worse) for name, score in {**scores, "another judge": other}.items()}
            pairs_of = float(len(kept.better))
            at = f"{ratio} x, {condition}"
            for name in scores:
                rows[f"accuracy of {name}, {at}"].append((hits[name], pairs_of))
            for name in ("length", "earlier", "another judge"):
                rows[f"a judge over {name}, {at}"].append((hits["a judge"] - hits[name], pairs_of))
    rows["mean true quality"].append((float(quality.sum()), float(len(quality))))
    rows["mean log karma"].append((float(log_scores(stories).sum()), float(len(quality))))
    best, drawn = int(np.argmax(one)), int(generator.integers(len(stories)))
    rows["gain"].append((float(quality[best] - quality[drawn]), 1.0))
    rows["gain at equal length"].append((float(quality[best] - quality[drawn]), float(lengths[best] - lengths[drawn])))


def _hits(score: np.ndarray, better: np.ndarray, worse: np.ndarray) -> float:
    return float(((1 + np.sign(score[better] - score[worse])) / 2).sum())


def quantities(parts: list[dict[str, list[tuple[float, float]]]]) -> dict[str, Quantity]:
    """Each quantity of the whole pool, by name; accuracies that are 0 or 1 there are left out."""
    all_of_pool = {}
    for name in parts[0]:
        kind = "share" if name.startswith("accuracy") else "intercept" if name.endswith("length") and "gain" in name else "ratio"
        quantity = Quantity(rows=np.array([row for part in parts for row in part[name]]), kind=kind)
        if kind != "share" or quantity.estimate(quantity.rows) not in (0.0, 1.0):
            all_of_pool[name] = quantity
    return {name: one for name, one in all_of_pool.items() if np.ptp(one.rows[:, 0]) > 0}


def covered(name: str, quantity: Quantity, threads: int) -> Coverage:
    """Simulates the coverage of one quantity: draws so many threads again and again, the same ones for every quantity."""
    generator = np.random.default_rng([SEED, threads])
    truth, inside, without, widths, percentile = quantity.estimate(quantity.rows), 0, 0, [], []
    for draw in range(DRAWS):
        rows = quantity.rows[generator.integers(len(quantity.rows), size=threads)]
        low, high = quantity.interval(rows)
        if low is None or high is None:
            without += 1
            continue
        inside += low <= truth <= high
        widths.append(high - low)
        if draw < BOOTSTRAPPED:
            percentile.append(_percentile_width(quantity, rows, draw))
    given = DRAWS - without
    return Coverage(
        quantity=name,
        threads=threads,
        coverage=inside / given,
        no_interval=without / DRAWS,
        width=float(np.mean(widths)),
        percentile_width=float(np.mean(percentile)),
    )


def _percentile_width(quantity: Quantity, rows: np.ndarray, seed: int) -> float:
    rows = rows[rows[:, 1] > 0] if quantity.kind != "intercept" else rows
    drawn = np.random.default_rng(seed).integers(len(rows), size=(RESAMPLES, len(rows)))
    low, high = np.nanquantile([quantity.estimate(rows[one]) for one in drawn], [0.025, 0.975])  # NaN: no spread of lengths
    return float(high - low)


def all_coverages(pool: dict[str, Quantity]) -> list[tuple[str, Quantity, int]]:
    """The simulations: every quantity with every number of threads."""
    return [(name, quantity, threads) for (name, quantity), threads in product(pool.items(), THREADS)]

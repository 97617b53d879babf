"""Mean true quality of a policy's stories, where the corpus knows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from itertools import cycle, islice

import numpy as np

BOOTSTRAPS = 2000


def judge(
    write: Callable[[list[str]], list[str]], prompts: SequenceOf[str], count: int, quality: Callable[[str, str], float]
) -> dict[str, float]:
    """Draw `count` stories on the distinct prompts in turn; their mean quality with a 95 % interval.

    The interval is a bootstrap over prompts: stories on one prompt are no independent draws.
    """
    chosen = list(islice(cycle(dict.fromkeys(prompts)), count))
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for prompt, story in zip(chosen, write(chosen), strict=True):
        by_prompt[prompt].append(quality(prompt, story))
    low, high = cluster_interval(list(by_prompt.values()))
    mean = float(np.mean([value for values in by_prompt.values() for value in values]))
    return {"quality": round(mean, 4), "quality_low": round(low, 4), "quality_high": round(high, 4), "stories": count}


def cluster_interval(groups: SequenceOf[SequenceOf[float]], seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over all values, whole groups resampled."""
    sums, sizes = np.array([sum(g) for g in groups]), np.array([len(g) for g in groups])
    drawn = np.random.default_rng(seed).integers(len(groups), size=(BOOTSTRAPS, len(groups)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)

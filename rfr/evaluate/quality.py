"""The mean score of a policy's stories: true quality where the corpus knows it, or a judge's score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from itertools import cycle, islice

import numpy as np

from rfr.evaluate.bootstrap import cluster_interval


def judge(
    write: Callable[[list[str]], list[str]], prompts: SequenceOf[str], count: int, quality: Callable[[str, str], float]
) -> dict[str, float]:
    """Draw `count` stories on the distinct prompts in turn; their mean quality with a 95 % interval."""
    chosen = cycle_prompts(prompts, count)
    scores = [quality(prompt, story) for prompt, story in zip(chosen, write(chosen), strict=True)]
    return {**mean_score("quality", chosen, scores), "stories": count}


def cycle_prompts(prompts: SequenceOf[str], count: int) -> list[str]:
    """`count` prompts: the distinct ones, again and again."""
    return list(islice(cycle(dict.fromkeys(prompts)), count))


def mean_score(name: str, prompts: SequenceOf[str], scores: SequenceOf[float]) -> dict[str, float]:
    """The mean with a 95 % interval, a bootstrap over prompts: stories on one prompt are no independent draws."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for prompt, score in zip(prompts, scores, strict=True):
        by_prompt[prompt].append(score)
    low, high = cluster_interval(list(by_prompt.values()))
    return {name: round(float(np.mean(scores)), 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}

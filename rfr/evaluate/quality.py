"""The mean score of a policy's stories: true quality where the corpus knows it, or a judge's score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from itertools import cycle, islice

import numpy as np

from rfr.utils.intervals import ratio_interval


def judge(
    write: Callable[[list[str]], list[str]], prompts: SequenceOf[str], count: int, quality: Callable[[str, str], float]
) -> dict[str, float | None]:
    """Draw `count` stories on the distinct prompts in turn; their mean quality with a 95 % interval."""
    chosen = cycle_prompts(prompts, count)
    scores = [quality(prompt, story) for prompt, story in zip(chosen, write(chosen), strict=True)]
    return {**mean_score("quality", chosen, scores), "stories": count}


def cycle_prompts(prompts: SequenceOf[str], count: int) -> list[str]:
    """`count` prompts: the distinct ones, again and again."""
    return list(islice(cycle(dict.fromkeys(prompts)), count))


def mean_score(name: str, prompts: SequenceOf[str], scores: SequenceOf[float]) -> dict[str, float | None]:
    """The mean with a 95 % interval over prompts, since stories on one prompt are no independent draws; of few prompts None."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for prompt, score in zip(prompts, scores, strict=True):
        by_prompt[prompt].append(score)
    values = list(by_prompt.values())
    interval = ratio_interval(np.array(list(map(sum, values))), np.array(list(map(len, values))))
    ends = zip(("low", "high"), interval, strict=True)
    return {
        name: round(float(np.mean(scores)), 4),
        **{f"{name}_{end}": None if value is None else round(value, 4) for end, value in ends},
    }

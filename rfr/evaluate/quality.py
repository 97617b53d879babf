"""Mean true quality of a policy's stories, where the corpus knows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from itertools import cycle, islice

import numpy as np

from rfr.evaluate.interval import cluster_interval


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

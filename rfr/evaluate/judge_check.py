"""Checks a judge beyond its accuracy: whether its score goes with length, and whether it tells a policy's stories apart."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf

import numpy as np

from rfr.data.preference_pairs import PreferencePairs
from rfr.evaluate.within_prompts import correlation, log_words, slope, spread
from rfr.records import Story

Quality = Callable[[str, str], float]  # true quality of a response to a prompt


def judge_check(stories: SequenceOf[tuple[str, str]], scores: np.ndarray, quality: Quality | None) -> dict[str, float]:
    """Figures of a judge on stories that a policy wrote, all within prompts.

    A judge that hardly varies, or whose score goes with length, breaks the policy that is trained against it, at the same pair
    accuracy.

    Args:
        stories: prompts and responses.
        quality: None: nobody knows it.

    Returns:
        `spread` of the score, its `length_slope` (per unit of the logarithm of the number of words) and `length_correlation`;
        where the true quality is known, `truth_correlation`.
    """
    prompts, lengths = [prompt for prompt, _ in stories], log_words([text for _, text in stories])
    figures = {
        "spread": spread(scores, prompts),
        "length_slope": slope(scores, lengths, prompts),
        "length_correlation": correlation(scores, lengths, prompts),
    }
    if quality is not None:
        truth = np.array([quality(prompt, text) for prompt, text in stories])
        figures["truth_correlation"] = correlation(scores, truth, prompts)
    return {name: round(value, 4) for name, value in figures.items()}


def pair_accuracy_of(quality: Quality, pairs: PreferencePairs, stories: SequenceOf[Story]) -> float:
    """How often the chosen story has the higher true quality: as far as any judge could get on pairs that noise has ordered too.

    Ties count half.
    """
    known = {int(index): quality(stories[int(index)].prompt, stories[int(index)].response) for index in np.unique(pairs.story)}
    values = np.array([known[int(index)] for index in pairs.story])
    return float(((1 + np.sign(values[pairs.chosen] - values[pairs.rejected])) / 2).mean())

"""Compares two policies on the same prompts: the gain, its interval, and the gain at equal length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from rfr.errors import UserError
from rfr.utils.intervals import Interval, intercept_interval, mean_interval

FEWEST_PAIRS = 2  # of policies that differ in their seeds


@dataclass(frozen=True, kw_only=True)
class ScoredStory:
    """A story that a policy wrote, and what a judge gives for it."""

    prompt: str
    words: int
    score: float


@dataclass(frozen=True, kw_only=True)
class PairedGain:
    """How much better: the mean difference of the scores, with a 95 % interval; ends are None where prompts are too few."""

    gain: float
    low: float | None
    high: float | None
    length_controlled: float  # the difference between stories of one length, by linear regression on the words
    length_controlled_low: float | None
    length_controlled_high: float | None
    prompts: int


def paired_gain(better: SequenceOf[Iterable[ScoredStory]], worse: SequenceOf[Iterable[ScoredStory]]) -> PairedGain:
    """The gain of one policy over another, or of several pairs of policies that differ in their seeds.

    Paired by prompts. The interval is over prompts, or over the pairs of policies where there are several. Longer stories may
    score higher for their length alone: of the prompts' mean differences of score and words, (d, l), the length-controlled gain
    is a in d = a + b l (as AlpacaEval 2 does, Dubois et al. 2024).

    Raises:
        UserError: the two have not written on the same prompts.
    """
    differences = [_differences(one, other) for one, other in zip(better, worse, strict=True)]
    gains = np.array([_estimates(of_pair) for of_pair in differences])
    plain, controlled = _intervals(differences[0]) if len(gains) == 1 else map(_over_pairs, gains.T)
    return PairedGain(
        gain=float(gains[:, 0].mean()),
        low=plain.low,
        high=plain.high,
        length_controlled=float(gains[:, 1].mean()),
        length_controlled_low=controlled.low,
        length_controlled_high=controlled.high,
        prompts=sum(map(len, differences)),
    )


def _intervals(differences: np.ndarray) -> tuple[Interval, Interval]:
    scores, words = differences.T
    return mean_interval(scores), intercept_interval(scores, words)


def _over_pairs(gains: np.ndarray) -> Interval:
    return mean_interval(gains, fewest=FEWEST_PAIRS)


def _differences(better: Iterable[ScoredStory], worse: Iterable[ScoredStory]) -> np.ndarray:
    """The difference of each prompt's mean score and mean words, shape (prompts, 2)."""
    one, other = _by_prompt(better), _by_prompt(worse)
    if one.keys() != other.keys() or not one:
        raise UserError("policies are compared on the same prompts, and these have written on others")
    return np.array([np.subtract(one[prompt], other[prompt]) for prompt in one])


def _by_prompt(stories: Iterable[ScoredStory]) -> dict[str, np.ndarray]:
    by_prompt = defaultdict(list)
    for story in stories:
        by_prompt[story.prompt].append((story.score, story.words))
    return {prompt: np.mean(values, axis=0) for prompt, values in by_prompt.items()}


def _estimates(differences: np.ndarray) -> tuple[float, float]:
    """The mean difference of the scores, and the part of it that lengths do not explain."""
    scores, words = differences.T
    spread = words - words.mean()
    slope = float(spread @ scores) / max(float(spread @ spread), 1e-12)
    return float(scores.mean()), float(scores.mean() - slope * words.mean())

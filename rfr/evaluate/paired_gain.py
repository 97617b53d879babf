"""Compares two policies on the same prompts: the gain, its interval, and the gain at equal length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from rfr.errors import UserError

DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class ScoredStory:
    """A story that a policy wrote, and what a judge gives for it."""

    prompt: str
    words: int
    score: float


@dataclass(frozen=True, kw_only=True)
class PairedGain:
    """How much better: the mean difference of the scores, with a 95 % interval."""

    gain: float
    low: float
    high: float
    length_controlled: float  # the difference between stories of one length, by linear regression on the words
    length_controlled_low: float
    length_controlled_high: float
    prompts: int


def paired_gain(better: SequenceOf[Iterable[ScoredStory]], worse: SequenceOf[Iterable[ScoredStory]], seed: int = 0) -> PairedGain:
    """The gain of one policy over another, or of several pairs of policies that differ in their seeds.

    Paired by prompts; the interval is a bootstrap that draws pairs of policies, and prompts within them. Longer stories may
    score higher for their length alone: of the prompts' mean differences of score and words, (d, l), the length-controlled gain
    is a in d = a + b l (as AlpacaEval 2 does, Dubois et al. 2024).

    Raises:
        UserError: the two have not written on the same prompts.
    """
    differences = [_differences(one, other) for one, other in zip(better, worse, strict=True)]
    generator = np.random.default_rng(seed)
    drawn = np.array([_estimates(_resampled(differences, generator)) for _ in range(DRAWS)])
    (low, controlled_low), (high, controlled_high) = np.quantile(drawn, [0.025, 0.975], axis=0)
    plain, controlled = _estimates(np.concatenate(differences))
    return PairedGain(
        gain=plain,
        low=float(low),
        high=float(high),
        length_controlled=controlled,
        length_controlled_low=float(controlled_low),
        length_controlled_high=float(controlled_high),
        prompts=sum(map(len, differences)),
    )


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


def _resampled(differences: SequenceOf[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    chosen = generator.integers(len(differences), size=len(differences))
    return np.concatenate([differences[i][generator.integers(len(differences[i]), size=len(differences[i]))] for i in chosen])


def _estimates(differences: np.ndarray) -> tuple[float, float]:
    """The mean difference of the scores, and the part of it that lengths do not explain."""
    scores, words = differences.T
    spread = words - words.mean()
    slope = float(spread @ scores) / max(float(spread @ spread), 1e-12)
    return float(scores.mean()), float(scores.mean() - slope * words.mean())

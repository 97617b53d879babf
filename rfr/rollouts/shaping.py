"""Shapes scores into rewards: `rollouts.shaping` names what is done to them, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from rfr.evaluate.within_prompts import log_words, slope
from rfr.ranges import Count, Fraction, ZeroOrMore
from rfr.rollouts.round_stories import RoundStories


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What shapings are fitted on, before the first round.

    Args:
        people: scores of people's stories on prompts that are not trained on; float64.
        start: stories of the start policy on such prompts, with their rewards as the shapings before this one leave them.
    """

    people: np.ndarray
    start: RoundStories


class Shaping(Protocol):
    """Rewards of shape (stories,) into others. `of_score`: it changes the score, so that a control that shuffles scores shuffles
    what becomes of them; else it is a cost of its own, which stays with its story."""

    of_score: ClassVar[bool]

    def fit(self, reference: Reference) -> dict[str, float]:
        """Fit it; figures to be logged."""
        ...

    def __call__(self, rewards: np.ndarray, stories: RoundStories) -> np.ndarray: ...


class Standardise:
    """r = (s - mean) / sd, of the scores of people's stories, so that runs against different judges compare.

    Args:
        stories: of people; those of the validation split, spread evenly.
    """

    of_score: ClassVar[bool] = True

    def __init__(self, stories: Count = 512) -> None:
        self.stories = stories
        self._mean, self._deviation = 0.0, 1.0

    def fit(self, reference: Reference) -> dict[str, float]:
        self._mean, self._deviation = float(reference.people.mean()), float(reference.people.std()) or 1.0
        return {"people_score_mean": self._mean, "people_score_sd": self._deviation}

    def __call__(self, rewards: np.ndarray, stories: RoundStories) -> np.ndarray:
        return (rewards - self._mean) / self._deviation


class LengthControl:
    """r = s - share * slope * log(words + 1): the part of the score that length explains is taken out.

    The slope is that of the start policy's own stories within a prompt, fitted once (as Park et al. 2024 take length out of DPO).

    Args:
        share: 1 takes out all of it, 0 nothing.
    """

    of_score: ClassVar[bool] = True

    def __init__(self, share: Fraction = 1.0) -> None:
        self._share, self._slope = share, 0.0

    def fit(self, reference: Reference) -> dict[str, float]:
        stories = reference.start
        self._slope = slope(stories.reward, log_words(stories.texts), stories.prompts)
        return {"start_length_slope": self._slope}

    def __call__(self, rewards: np.ndarray, stories: RoundStories) -> np.ndarray:
        return rewards - self._share * self._slope * log_words(stories.texts)


class CutOffPenalty:
    """r = s - penalty, of a story that reached the limit of its length.

    Args:
        penalty: in the units of the rewards before it.
    """

    of_score: ClassVar[bool] = True

    def __init__(self, penalty: ZeroOrMore = 1.0) -> None:
        self._penalty = penalty

    def fit(self, reference: Reference) -> dict[str, float]:
        return {}

    def __call__(self, rewards: np.ndarray, stories: RoundStories) -> np.ndarray:
        return rewards - self._penalty * ~stories.ended


class KLPenalty:
    """r = s - beta (log pi(y) - log start(y)): the Kullback-Leibler divergence from the start policy, as one story estimates it
    (k1 in Schulman 2020; Stiennon et al. 2020).

    Args:
        beta: of the rewards, per nat.
    """

    of_score: ClassVar[bool] = False

    def __init__(self, beta: ZeroOrMore = 0.0) -> None:
        self.beta = beta

    def fit(self, reference: Reference) -> dict[str, float]:
        return {}

    def __call__(self, rewards: np.ndarray, stories: RoundStories) -> np.ndarray:
        return rewards - self.beta * (stories.policy_logprob - stories.start_logprob)

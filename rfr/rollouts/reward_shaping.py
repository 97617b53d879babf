"""Turns the scores of a round's stories into their rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import replace

import numpy as np

from rfr.evaluate.within_prompts import log_words, slope
from rfr.rollouts.round_stories import RoundStories
from rfr.rollouts.shaping import Reference, Shaping, Standardise

Texts = SequenceOf[tuple[str, str]]
PEOPLE = 512  # stories of people that are scored, where no shaping asks for another number


class RewardShaping:
    """All shapings in order.

    Args:
        shuffle: a control: rewards are shuffled within each prompt, all but what is no matter of the score, such as a KL penalty.
    """

    def __init__(self, shapings: Mapping[str, Shaping], shuffle: bool, seed: int) -> None:
        self._of_score = [shaping for shaping in shapings.values() if shaping.of_score]
        self._of_story = [shaping for shaping in shapings.values() if not shaping.of_score]
        self._shuffle, self._seed = shuffle, seed

    def fit(self, people: Texts, start: RoundStories, score: Callable[[Texts], np.ndarray]) -> dict[str, float]:
        """Fit them before the first round; figures to be logged.

        Args:
            people: prompts and stories of the validation split.
            start: the start policy's stories on validation prompts.
        """
        wanted = max((shaping.stories for shaping in self._of_score if isinstance(shaping, Standardise)), default=PEOPLE)
        chosen = np.linspace(0, len(people) - 1, min(wanted, len(people))).astype(int)
        texts = [people[index] for index in chosen]
        scores, start = score(texts), replace(start, reward=start.score)
        figures = {"people_length_slope": slope(scores, log_words([text for _, text in texts]), [prompt for prompt, _ in texts])}
        for shaping in (*self._of_score, *self._of_story):
            figures |= shaping.fit(Reference(people=scores, start=start))
            start = replace(start, reward=shaping(start.reward, start))
        return figures

    def __call__(self, stories: RoundStories, shuffled_in: int | None = None) -> np.ndarray:
        """The rewards, float64 of shape (stories,).

        Args:
            shuffled_in: the number of a round that is learned from; None: the stories are only looked at.
        """
        rewards = stories.score
        for shaping in self._of_score:
            rewards = shaping(rewards, stories)
        if self._shuffle and shuffled_in is not None:
            rewards = self._shuffled(rewards, stories.prompts, shuffled_in)
        for shaping in self._of_story:
            rewards = shaping(rewards, stories)
        return rewards

    def _shuffled(self, rewards: np.ndarray, prompts: list[str], number: int) -> np.ndarray:
        generator = np.random.default_rng([self._seed, number, 1])
        group = np.unique(np.array(prompts), return_inverse=True)[1]
        shuffled = np.empty_like(rewards)
        for members in (np.flatnonzero(group == one) for one in range(group.max() + 1)):
            shuffled[members] = rewards[generator.permutation(members)]
        return shuffled

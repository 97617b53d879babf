"""People's stories that are mixed into a round: `rollouts.mix`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rfr.data.batches import AdvantageRows, PairRows, WeightedRows
from rfr.data.pack.rows import PackedRows
from rfr.rollouts.round_stories import RoundStories, story_rows


@dataclass(frozen=True, kw_only=True)
class MixedIn:
    """Tokens of stories and of their prompts, int32 arrays; weights are float64. The two stories of a pair follow one another.

    Args:
        cut_off: they are longer than the block, and begun only; bool.
    """

    prompts: list[np.ndarray]
    stories: list[np.ndarray]
    cut_off: np.ndarray
    weights: np.ndarray


class PeopleStories:
    """Draws people's training stories for each round.

    Args:
        source: what an offline run would learn from, which has their weights or pairs.
        count: of a round.
    """

    def __init__(self, rows: PackedRows, source: Any, count: int, seed: int) -> None:
        self._rows, self._seed = rows, seed
        self._stories_UK, self._weights_UK = _drawn_together(source)
        self._units = count // self._stories_UK.shape[1]

    def __call__(self, number: int) -> MixedIn:
        """Those of a round."""
        generator, units = np.random.default_rng([self._seed, number, 2]), len(self._stories_UK)
        chosen = generator.choice(units, self._units, replace=self._units > units)
        prompts, stories, cut_off = [], [], []
        for start, text, end in self._rows.stories[self._stories_UK[chosen].ravel()]:
            prompt, story = self._rows.tokens[start:text], self._rows.tokens[text:end]
            room = self._rows.block - len(prompt)
            prompts.append(np.asarray(prompt))
            stories.append(np.asarray(story if len(story) <= room else story[: room + 1]))  # the last is only a label
            cut_off.append(len(story) > room)
        weights = self._weights_UK[chosen].ravel()
        return MixedIn(prompts=prompts, stories=stories, cut_off=np.array(cut_off, bool), weights=weights)


def _drawn_together(source: Any) -> tuple[np.ndarray, np.ndarray]:
    """Units that are drawn as a whole, a story or the two of a pair: the numbers of their stories, shape (units, 1 or 2), and
    what these weigh; of a pair 1 the better, -1 the other."""
    if isinstance(source, PairRows):
        pairs = source.comparisons
        stories_U2 = np.stack([pairs.story[pairs.chosen], pairs.story[pairs.rejected]], axis=1)
        return stories_U2, np.tile([1.0, -1.0], (len(stories_U2), 1))
    if isinstance(source, WeightedRows):
        weights = source.weights
    else:
        assert isinstance(source, AdvantageRows)
        weights = source.advantages
    return np.arange(len(weights))[:, None], weights[:, None]


def people_rows(people: MixedIn, block: int, eos: int) -> PackedRows:
    """A row for each of people's stories."""
    return story_rows(people.prompts, people.stories, people.cut_off, block, eos)


def with_people(stories: RoundStories, people: MixedIn, block: int, eos: int) -> PackedRows:
    """A row for each of the policy's stories and then of people's."""
    own = [ids[:length] for ids, length in zip(stories.ids, stories.lengths, strict=True)]
    cut_off = np.append(~stories.ended, people.cut_off)
    return story_rows([*stories.prompt_ids, *people.prompts], [*own, *people.stories], cut_off, block, eos)

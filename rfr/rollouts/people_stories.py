"""People's stories that are mixed into a round: `rollouts.mix`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rfr.data.batches import AdvantageRows, WeightedRows
from rfr.data.pack.rows import PackedRows
from rfr.rollouts.round_stories import RoundStories, story_rows


@dataclass(frozen=True, kw_only=True)
class MixedIn:
    """Tokens of stories and of their prompts, int32 arrays; weights are float64.

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
        source: what an offline run would learn from, which has their weights.
        count: of a round.
    """

    def __init__(self, rows: PackedRows, source: Any, count: int, seed: int) -> None:
        self._rows, self._count, self._seed = rows, count, seed
        self._weights = _weights(source) if count else np.zeros(0)

    def __call__(self, number: int) -> MixedIn:
        """Those of a round."""
        generator = np.random.default_rng([self._seed, number, 2])
        chosen = generator.choice(len(self._rows.stories), self._count, replace=self._count > len(self._rows.stories))
        prompts, stories, cut_off = [], [], []
        for start, text, end in self._rows.stories[chosen]:
            prompt, story = self._rows.tokens[start:text], self._rows.tokens[text:end]
            room = self._rows.block - len(prompt)
            prompts.append(np.asarray(prompt))
            stories.append(np.asarray(story if len(story) <= room else story[: room + 1]))  # the last is only a label
            cut_off.append(len(story) > room)
        return MixedIn(prompts=prompts, stories=stories, cut_off=np.array(cut_off, bool), weights=self._weights[chosen])


def _weights(source: Any) -> np.ndarray:
    if isinstance(source, WeightedRows):
        return source.weights
    assert isinstance(source, AdvantageRows), "pairs are not mixed"
    return source.advantages


def with_people(stories: RoundStories, people: MixedIn, block: int, eos: int) -> PackedRows:
    """A row for each of the policy's stories and then of people's."""
    own = [ids[:length] for ids, length in zip(stories.ids, stories.lengths, strict=True)]
    cut_off = np.append(~stories.ended, people.cut_off)
    return story_rows([*stories.prompt_ids, *people.prompts], [*own, *people.stories], cut_off, block, eos)

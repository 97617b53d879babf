"""Fit policies: make every sequence fit the block. None of them truncates a pair.

A sequence of n inputs needs n + 1 tokens, the last being only a label; so a block of T rooms T + 1 tokens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

from rfr.data.tokenise import Tokens, to_sequence
from rfr.records import Sequence

PROMPT_TOO_LONG = "prompt leaves less than a quarter of the block"
STORY_TOO_LONG = "longer than the block"


def story_room(tokens: Tokens, block_size: int) -> int:
    """Tokens left for the story and its end-of-text; 0 where the prompt takes more than three quarters."""
    room = block_size + 1 - len(tokens.prompt)
    return room if room >= block_size / 4 else 0


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Split stories that are too long at sentence ends; every story token is a target exactly once.

    Each segment carries the prompt and, from the second on, the `context_tokens` tokens before it, which are
    not trained on again. Only the last ends in end-of-text. A sentence longer than the room is split at a word,
    a word longer than the room anywhere; `splits` counts which happened how often.
    """

    context_tokens: int
    splits: Counter[str] = field(default_factory=Counter, compare=False)

    def __call__(self, tokens: Tokens, block_size: int, eos: int, story: int) -> list[Sequence] | str:
        room = story_room(tokens, block_size)
        too_little = block_size // 8  # new story tokens per segment, below which the context is most of the cost
        if room == 0 or (len(tokens.story) >= room and room - self.context_tokens < too_little):
            return PROMPT_TOO_LONG
        segments, start = [], 0
        while True:
            context = tokens.story[max(0, start - self.context_tokens) : start]
            end = self._cut(tokens, start, start + room - len(context))
            last = [eos] if end == len(tokens.story) else []
            segments.append(to_sequence([*tokens.prompt, *context], [*tokens.story[start:end], *last], story))
            if last:
                return segments
            start = end

    def _cut(self, tokens: Tokens, start: int, limit: int) -> int:
        """Where the segment from `start` ends, at most at `limit`; end-of-text needs a place too."""
        if len(tokens.story) < limit:
            return len(tokens.story)
        for name, places in (("at a sentence", tokens.sentence_ends), ("at a word", tokens.word_starts)):
            index = bisect_right(places, limit) - 1
            if index >= 0 and places[index] > start:
                self.splits[name] += 1
                return places[index]
        self.splits["inside a word"] += 1
        return limit


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Leave out pairs that do not fit."""

    def __call__(self, tokens: Tokens, block_size: int, eos: int, story: int) -> list[Sequence] | str:
        if story_room(tokens, block_size) == 0:
            return PROMPT_TOO_LONG
        if len(tokens.story) + 1 > story_room(tokens, block_size):
            return STORY_TOO_LONG
        return [to_sequence(tokens.prompt, [*tokens.story, eos], story)]


@dataclass(frozen=True, kw_only=True)
class Strict:
    """Refuse a corpus that holds a pair that does not fit."""

    def __call__(self, tokens: Tokens, block_size: int, eos: int, story: int) -> list[Sequence] | str:
        fitted = Drop()(tokens, block_size, eos, story)
        if isinstance(fitted, str):
            raise ValueError(
                f"a pair of {len(tokens.prompt)} + {len(tokens.story)} tokens does not fit block_size={block_size} ({fitted}): "
                "raise it, or choose preprocess=segment or preprocess=drop"
            )
        return fitted

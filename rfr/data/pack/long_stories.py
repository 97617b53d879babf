"""The policies for long stories: which are refused, and where the others may be cut. None truncates a story.

A piece of n tokens takes n - 1 positions, since its last token is only a label; so a block of T positions holds T + 1 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rfr.data.tokenise import Tokens
from rfr.errors import UserError, require_whole
from rfr.ranges import Whole

PROMPT_TOO_LONG = "prompt leaves less than a quarter of the block"
CRAMPED = "prompt and context leave less than an eighth of the block to a long story"
STORY_TOO_LONG = "longer than the block"
SENTENCE, WORD, INSIDE_WORD = "at a sentence", "at a word", "inside a word"  # kinds of cuts, by their index in KINDS
KINDS = (SENTENCE, WORD, INSIDE_WORD)


class Fit(Protocol):
    """The policy for long stories, as preparation uses it. `context_tokens`: tokens before each piece that are not trained on."""

    @property
    def context_tokens(self) -> int: ...

    def refuses(self, prompt: int, story: int, block: int) -> str | None:
        """Why a story of so many tokens stays out; None if it comes in.

        Raises:
            UserError: the policy allows no story that is too long.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Cut stories that are too long; every story token is a target exactly once.

    Each piece carries the prompt and, from the second on, the `context_tokens` tokens before it, which are not trained on again.
    Only the last ends in end-of-text. Cuts are at the ends of sentences; only a sentence longer than a piece is cut at words, and
    a word longer than a piece anywhere.
    """

    context_tokens: Whole

    def __post_init__(self) -> None:
        require_whole("preprocess.fit.context_tokens", self.context_tokens, least=0)

    def refuses(self, prompt: int, story: int, block: int) -> str | None:
        if max_story_tokens(prompt, block) == 0:
            return PROMPT_TOO_LONG
        # With so few new tokens per piece the context is most of the cost; and a piece's last token is only a label.
        cramped = max_story_tokens(prompt, block) - self.context_tokens < block // 8
        return CRAMPED if cramped and prompt + story > block else None


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Leave out stories that do not fit."""

    context_tokens: Whole = 0

    def refuses(self, prompt: int, story: int, block: int) -> str | None:
        if max_story_tokens(prompt, block) == 0:
            return PROMPT_TOO_LONG
        return STORY_TOO_LONG if prompt + story > block else None


@dataclass(frozen=True, kw_only=True)
class Strict:
    """Refuse a corpus that holds a story that does not fit."""

    context_tokens: Whole = 0

    def refuses(self, prompt: int, story: int, block: int) -> str | None:
        if reason := Drop().refuses(prompt, story, block):
            raise UserError(
                f"a prompt of {prompt} and a story of {story} tokens does not fit block_size={block} ({reason}): "
                "raise it, or choose preprocess=segment or preprocess=drop"
            )
        return None


def max_story_tokens(prompt: int, block: int) -> int:
    """Tokens left for the story and its end-of-text; 0 where the prompt takes more than three quarters."""
    room = block + 1 - prompt
    return room if room >= block / 4 else 0


def allowed_cuts(
    tokens: Tokens, text: bytes, breaks: SequenceOf[int] | np.ndarray, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Token indices where a story may be cut, ascending and at most `longest` apart, and their kinds (indices into KINDS).

    Args:
        text: the story in UTF-8.
        breaks: the byte positions of the text at which sentences end.
    """
    assert longest > 0, "a piece holds at least one new token"
    length = len(tokens.ids)
    ends = np.unique(np.searchsorted(tokens.starts, np.asarray(breaks, np.int64)))
    ends = ends[(ends > 0) & (ends < length)]
    if np.diff(ends, prepend=0, append=length).max() <= longest:
        return ends, np.zeros(len(ends), np.int8)
    cuts, kinds, here, words = [], [], 0, _word_starts(tokens, text)
    for end in [*ends.tolist(), length]:
        while end - here > longest:
            index = np.searchsorted(words, here + longest, side="right") - 1
            at_word = index >= 0 and words[index] > here
            here = int(words[index]) if at_word else here + longest
            cuts.append(here)
            kinds.append(KINDS.index(WORD if at_word else INSIDE_WORD))
        if end < length:
            here = end
            cuts.append(end)
            kinds.append(KINDS.index(SENTENCE))
    return np.array(cuts, np.int64), np.array(kinds, np.int8)


def _word_starts(tokens: Tokens, text: bytes) -> np.ndarray:
    """Indices of the tokens that begin with white space or behind it."""
    white = np.isin(np.frombuffer(text, np.uint8), np.frombuffer(b" \n\t", np.uint8))
    starts = tokens.starts
    return np.flatnonzero((starts > 0) & (white[starts] | white[starts - 1]))

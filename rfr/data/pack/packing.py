"""The ways to pack: `conf/packing/*.yaml` names one."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from rfr.data.pack.best_fit import Placement, StoryLengths, best_fit


class Packing(Protocol):
    """`packed`: rows hold several documents and are full; else one each, and are as long as it is."""

    packed: ClassVar[bool]

    def __call__(self, lengths: StoryLengths, block: int, context: int) -> Placement: ...


@dataclass(frozen=True)
class BestFit:
    """Rows filled with several documents, long stories cut so that they fill gaps; see `plan.py`."""

    packed: ClassVar[bool] = True

    def __call__(self, lengths: StoryLengths, block: int, context: int) -> Placement:
        return best_fit(lengths, block, context)


@dataclass(frozen=True)
class Off:
    """One document a row, longest rows first; long stories cut into as few pieces as they can be."""

    packed: ClassVar[bool] = False

    def __call__(self, lengths: StoryLengths, block: int, context: int) -> Placement:
        flat = array("i")  # a list of tuples takes ten times the memory
        for story in range(len(lengths.stories)):
            for piece in _pieces(story, lengths, block, context):
                flat.extend(piece)
        pieces = np.array(flat, np.int32).reshape(-1, 3)
        stories, start, end = pieces[np.argsort(-_sizes(pieces, lengths, context), kind="stable")].T
        return Placement(story=stories, start=start, end=end, row=np.arange(len(pieces), dtype=np.int32))


def _pieces(story: int, lengths: StoryLengths, block: int, context: int) -> list[tuple[int, int, int]]:
    prompt, length, cuts = int(lengths.prompts[story]), int(lengths.stories[story]), lengths.cuts_of(story)
    pieces, start = [], 0
    while (before := prompt + min(start, context)) + length - start > block:
        end = int(cuts[np.searchsorted(cuts, start + block + 1 - before, side="right") - 1])
        pieces.append((story, start, end))
        start = end
    return [*pieces, (story, start, length)]


def _sizes(pieces: np.ndarray, lengths: StoryLengths, context: int) -> np.ndarray:
    story, start, end = pieces.T
    inner = end < lengths.stories[story]  # its last token is only a label
    return lengths.prompts[story] + np.minimum(start, context) + end - start - inner

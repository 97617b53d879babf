"""Best-fit packing: chooses together where long stories are cut and which row each piece goes to.

Whole stories go first, longest first, each into the smallest gap that holds it (best-fit decreasing). What is left of their
rows is filled by the pieces of stories that are too long: of all places where such a story may be cut, each piece ends where
the capacity that it and the rest of its story use up is cheapest. A gap smaller than an eighth of a row is worth nothing, since a
further piece would mostly repeat its prompt and context; from there to a whole row the price rises evenly. So a piece that fills
such a gap costs little, and one that needs a new row costs what it takes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

WORTHLESS_SHARE = 1 / 8  # of a row: smaller gaps are worth nothing
FEWEST_SHARE = 1 / 16  # of a row: new tokens of a piece, where there is a choice
SLACK_SHARE = 0.01  # of a row: what a full piece loses on average, because a sentence ends earlier


@dataclass(frozen=True, kw_only=True)
class StoryLengths:
    """The lengths that packing needs; int arrays, in tokens.

    `cuts[cut_offsets[i]:cut_offsets[i + 1]]` are the tokens before which story i may be cut, ascending, never further apart than
    a piece is long.
    """

    prompts: np.ndarray
    stories: np.ndarray
    cuts: np.ndarray
    cut_offsets: np.ndarray

    def cuts_of(self, story: int) -> np.ndarray:
        return np.asarray(self.cuts[self.cut_offsets[story] : self.cut_offsets[story + 1]])


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Pieces, int32 arrays of equal length: tokens `start` to `end` of a story are targets in this row. Sorted by row."""

    story: np.ndarray
    start: np.ndarray
    end: np.ndarray
    row: np.ndarray


def best_fit(lengths: StoryLengths, block: int, context: int) -> Placement:
    """All stories into rows of `block` tokens; each piece takes its prompt, up to `context` tokens before it and its targets.

    The last piece of a story has end-of-text as one more target. As the last token of a piece is only a label, a piece of
    n tokens takes n - 1 places.
    """
    pieces = array("i")  # story, start, end, row of each in turn; a list of tuples takes ten times the memory
    gaps = _Gaps(block)
    whole_sizes = lengths.prompts + lengths.stories
    for story in np.lexsort((np.arange(len(whole_sizes)), -whole_sizes)):
        if whole_sizes[story] <= block:
            pieces.extend((story, 0, lengths.stories[story], gaps.row_for(int(whole_sizes[story]))))
    for story in np.lexsort((np.arange(len(whole_sizes)), whole_sizes)):
        if whole_sizes[story] > block:
            for piece in _cut(int(story), lengths, gaps, context):
                pieces.extend(piece)
    columns = np.array(pieces, np.int32).reshape(-1, 4).T
    order = np.argsort(columns[3], kind="stable")
    return Placement(**dict(zip(("story", "start", "end", "row"), columns[:, order], strict=True)))


def _cut(story: int, lengths: StoryLengths, gaps: _Gaps, context: int) -> list[tuple[int, int, int, int]]:
    prompt, length, cuts = int(lengths.prompts[story]), int(lengths.stories[story]), lengths.cuts_of(story)
    pieces: list[tuple[int, int, int, int]] = []
    start = 0
    while True:
        before = prompt + min(start, context)
        room = gaps.block + 1 - before
        to_end = before + length - start
        within = cuts[np.searchsorted(cuts, start, side="right") : np.searchsorted(cuts, start + room, side="right")]
        costs = gaps.cost(before + within - start - 1) + _cost_of_rest(gaps, prompt, length, context, within)
        scraps = np.minimum(within - start, length - within) < FEWEST_SHARE * gaps.block
        costs = costs + np.where(scraps, gaps.block, 0)
        if to_end <= gaps.block and (not len(costs) or gaps.cost(np.array([to_end]))[0] <= costs.min()):
            return [*pieces, (story, start, length, gaps.row_for(to_end))]
        end = int(within[np.argmin(costs)])
        pieces.append((story, start, end, gaps.row_for(before + end - start - 1)))
        start = end


def _cost_of_rest(gaps: _Gaps, prompt: int, length: int, context: int, cuts: np.ndarray) -> np.ndarray:
    """The cost of a story's rest, from each of these cuts on: full rows, and a last piece where it fits best."""
    targets = length + 1 - cuts
    before = prompt + np.minimum(cuts, context)
    at_once = targets <= gaps.block + 1 - before
    full = gaps.block + 1 - prompt - context - int(SLACK_SHARE * gaps.block)  # targets of a full piece
    left = targets - (full + context - np.minimum(cuts, context))  # behind the next piece
    full_rows = np.maximum(0, -(-(left - full) // full))
    last = np.where(at_once, before + targets - 1, prompt + context + np.maximum(left - full_rows * full, 1) - 1)
    return np.where(at_once, 0, full_rows + 1) * gaps.block + gaps.cost(np.minimum(last, gaps.block))


class _Gaps:
    """Rows that have room left, by how much."""

    def __init__(self, block: int) -> None:
        self.block, self.rows = block, 0
        self._open: list[list[int]] = [[] for _ in range(block + 1)]
        self._sizes = np.array([block])  # of the gaps there are, ascending; a new row is always one
        worthless = WORTHLESS_SHARE * block
        self._price = np.maximum(0, np.arange(block + 1) - worthless) * block / (block - worthless)

    def cost(self, sizes: np.ndarray) -> np.ndarray:
        """The price of the smallest gap that holds each size, less the price of what is left of it."""
        gaps = self._sizes[np.searchsorted(self._sizes, sizes)]
        return self._price[gaps] - self._price[gaps - sizes]

    def row_for(self, size: int) -> int:
        """The row that takes it."""
        gap = int(self._sizes[np.searchsorted(self._sizes, size)])
        if self._open[gap]:
            row = self._open[gap].pop()
            if not self._open[gap]:
                self._sizes = np.delete(self._sizes, np.searchsorted(self._sizes, gap))
        else:
            row, self.rows = self.rows, self.rows + 1
        left = gap - size
        if left:
            if not self._open[left]:
                self._sizes = np.insert(self._sizes, np.searchsorted(self._sizes, left), left)
            self._open[left].append(row)
        return row

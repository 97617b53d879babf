"""A packed split on disk: the tokens of all stories, and which piece of which story is in which row.

Rows are put together when they are asked for, so that a split holds its tokens and no padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rfr.data.pack.best_fit import Placement
from rfr.records import IGNORE, Rows

WIDTH_STEP = 8  # matrix units are fastest with multiples of it


def shift_targets(tokens: np.ndarray, targets: int) -> tuple[np.ndarray, np.ndarray]:
    """Input ids and labels of a document whose last `targets` tokens are to be learnt. The one place where labels are shifted:
    `labels[t]` is the token that follows `input_ids[t]`."""
    labels = np.full(len(tokens) - 1, IGNORE, np.int32)
    labels[-targets:] = tokens[-targets:]
    return tokens[:-1], labels


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """N rows of T = `block` tokens; where not `packed`, a row is one document and as long as it is.

    `tokens` (int32) holds each story's prompt and text in turn; `stories` (int64, shape (stories, 3)) holds where a prompt
    starts, where its text starts, and where the text ends. `pieces` says which piece stands in which row.
    """

    block: int
    context: int
    eos: int
    packed: bool
    tokens: np.ndarray
    stories: np.ndarray
    pieces: Placement
    controls: np.ndarray | None = None  # of each story, the token that takes the place of the first one of its prompt
    cut_off: np.ndarray | None = None  # bool, of each story: it has no end, so no end-of-text follows it; None: all have one

    def __post_init__(self) -> None:
        starts = np.searchsorted(self.pieces.row, np.arange(int(self.pieces.row[-1]) + 2))
        object.__setattr__(self, "_starts", starts)

    _starts: np.ndarray = None  # type: ignore[assignment]  # of each row's pieces

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def story_tokens(self) -> np.ndarray:
        """Tokens of each story, without end-of-text; int64 of shape (stories,)."""
        return self.stories[:, 2] - self.stories[:, 1]

    @property
    def is_ending(self) -> np.ndarray:
        """Whether end-of-text follows each piece; bool."""
        pieces = self.pieces
        last = pieces.end == self.story_tokens[pieces.story]
        return last if self.cut_off is None else last & ~self.cut_off[pieces.story]

    @cached_property
    def row_targets(self) -> np.ndarray:
        """Target tokens of each row, int64."""
        targets = self.pieces.end - self.pieces.start + self.is_ending
        return np.add.reduceat(targets.astype(np.int64), self._starts[:-1])

    @property
    def piece_lengths(self) -> np.ndarray:
        """Places that each piece takes in its row, int64: prompt, context and targets, less the last token if only a label."""
        pieces, prompts = self.pieces, self.stories[:, 1] - self.stories[:, 0]
        return prompts[pieces.story] + np.minimum(pieces.start, self.context) + pieces.end - pieces.start - ~self.is_ending

    @cached_property
    def row_lengths(self) -> np.ndarray:
        """Places taken in each row, int64."""
        return np.add.reduceat(self.piece_lengths, self._starts[:-1])

    def take(self, indices: np.ndarray) -> Rows:
        """These rows; arrays of shape (len(indices), T), or where not packed as wide as the longest of them."""
        shape = (len(indices), self.block if self.packed else self._width(indices))
        rows = Rows(
            input_ids=np.zeros(shape, np.int32),
            labels=np.full(shape, IGNORE, np.int32),
            positions=np.zeros(shape, np.int32),
            documents=np.zeros(shape, np.int32),
            stories=np.zeros(shape, np.int32),
        )
        for n, row in enumerate(indices):
            start = 0
            for document, piece in enumerate(range(self._starts[row], self._starts[row + 1]), start=1):
                input_ids, labels = shift_targets(*self.document(piece))
                span = (n, slice(start, start + len(input_ids)))
                rows.input_ids[span], rows.labels[span] = input_ids, labels
                rows.positions[span] = np.arange(len(input_ids))
                rows.documents[span], rows.stories[span] = document, self.pieces.story[piece]
                start = span[1].stop
        return rows

    def _width(self, indices: np.ndarray) -> int:
        longest = int(self.row_lengths[indices].max())
        return min(self.block, -(-longest // WIDTH_STEP) * WIDTH_STEP)

    def document(self, piece: int) -> tuple[np.ndarray, int]:
        """Prompt, context and new tokens of a piece, and how many of the last are targets. Its last token is only a label."""
        story, start, end = (int(column[piece]) for column in (self.pieces.story, self.pieces.start, self.pieces.end))
        prompt, first, stop = (int(index) for index in self.stories[story])
        closing = [self.eos] if end == stop - first and (self.cut_off is None or not self.cut_off[story]) else []
        stretch = self.tokens[first + max(0, start - self.context) : first + end]
        opening = self.tokens[prompt:first]
        if self.controls is not None:
            opening = np.append(self.controls[story], opening[1:]).astype(np.int32)
        return np.concatenate([opening, stretch, np.array(closing, np.int32)]), end - start + len(closing)

    def save(self, folder: Path) -> None:
        """Beside `tokens.bin`, which is written while the stories are read."""
        np.save(folder / "stories.npy", self.stories)
        pieces = self.pieces
        np.save(folder / "pieces.npy", np.stack([pieces.story, pieces.start, pieces.end, pieces.row]))
        np.save(folder / "shape.npy", np.array([self.block, self.context, self.eos, self.packed]))

    @classmethod
    def load(cls, folder: Path) -> PackedRows:
        """Load what `save` wrote, memory-mapped."""
        block, context, eos, packed = (int(value) for value in np.load(folder / "shape.npy"))
        story, start, end, row = np.load(folder / "pieces.npy", mmap_mode="r")
        return cls(
            block=block,
            context=context,
            eos=eos,
            packed=bool(packed),
            tokens=np.memmap(folder / "tokens.bin", np.int32, mode="r"),
            stories=np.load(folder / "stories.npy", mmap_mode="r"),
            pieces=Placement(story=story, start=start, end=end, row=row),
        )

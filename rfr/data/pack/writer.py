"""Writes a split's tokenised stories to disk and packs them into rows."""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from rfr.data.pack.best_fit import StoryLengths
from rfr.data.pack.long_stories import KINDS, allowed_cuts
from rfr.data.pack.packing import Packing
from rfr.data.pack.rows import PackedRows
from rfr.data.pack.sentences import sentence_ends
from rfr.data.story_table import COLUMNS, writing
from rfr.data.tokenise import Tokens, byte_positions


class SplitWriter:
    """The stories of a split on their way into rows: tokens and possible cuts go to files, their lengths are kept."""

    def __init__(self, folder: Path, context: int, block: int) -> None:
        self._folder, self._context, self._block = folder, context, block
        self._token_ranges = array("q")  # begin of the prompt, begin and end of the story, for each story
        self._cut_counts = array("q")
        self._end = 0

    def __enter__(self) -> SplitWriter:
        self._files = ExitStack()
        self._write_stories = self._files.enter_context(writing(self._folder / "stories.arrow", COLUMNS))
        self._tokens, self._cuts, self._kinds = (
            self._files.enter_context((self._folder / name).open("wb")) for name in ("tokens.bin", "cuts.bin", "kinds.bin")
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write_stories(self, rows: list[dict[str, Any]]) -> None:
        self._write_stories(rows)

    def add(self, text: str, prompt: Tokens, story: Tokens) -> None:
        """The next story."""
        start = self._end + len(prompt.ids)
        self._token_ranges.extend((self._end, start, start + len(story.ids)))
        self._end = start + len(story.ids)
        self._tokens.write(prompt.ids.tobytes() + story.ids.tobytes())
        cuts = self._cuts_of(text, prompt, story) if len(prompt.ids) + len(story.ids) > self._block else None
        self._cut_counts.append(0 if cuts is None else len(cuts[0]))
        if cuts is not None:
            self._cuts.write(cuts[0].astype(np.int32).tobytes())
            self._kinds.write(cuts[1].astype(np.int8).tobytes())

    def _cuts_of(self, text: str, prompt: Tokens, story: Tokens) -> tuple[np.ndarray, np.ndarray]:
        longest = self._block - len(prompt.ids) - self._context  # beside end-of-text
        return allowed_cuts(story, text.encode(), byte_positions(text, sentence_ends(text)), longest)

    def pack(self, packing: Packing, eos: int) -> dict[str, Any]:
        """Plan the rows and write what makes them; returns the ledger's figures about them."""
        spans = np.array(self._token_ranges, np.int64).reshape(-1, 3)
        lengths = StoryLengths(
            prompts=spans[:, 1] - spans[:, 0],
            stories=spans[:, 2] - spans[:, 1],
            cuts=_mapped(self._folder / "cuts.bin", np.int32),
            cut_offsets=np.append(0, np.cumsum(self._cut_counts)),
        )
        kinds = _mapped(self._folder / "kinds.bin", np.int8)
        rows = PackedRows(
            block=self._block,
            context=self._context,
            eos=eos,
            packed=packing.packed,
            tokens=_mapped(self._folder / "tokens.bin", np.int32),
            stories=spans,
            pieces=packing(lengths, self._block, self._context),
        )
        rows.save(self._folder)
        figures = _figures(rows, lengths, kinds)
        for name in ("cuts.bin", "kinds.bin"):
            (self._folder / name).unlink()
        return figures


def _mapped(path: Path, dtype: Any) -> np.ndarray:
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)


def _figures(rows: PackedRows, lengths: StoryLengths, kinds: np.ndarray) -> dict[str, Any]:
    pieces, targets = rows.pieces, int(rows.row_targets.sum())
    assert targets == int((lengths.stories + 1).sum()), "every story token and one end-of-text is a target exactly once"
    inner = pieces.end < lengths.stories[pieces.story]
    cuts = np.zeros(len(KINDS), np.int64)
    for story, end in zip(pieces.story[inner], pieces.end[inner], strict=True):
        cut = np.searchsorted(lengths.cuts_of(story), end)
        cuts[kinds[lengths.cut_offsets[story] + cut]] += 1
    room = len(rows) * rows.block
    return {
        "segments": len(pieces.story),
        "cuts": dict(zip(KINDS, cuts.tolist(), strict=True)),
        "target_tokens": targets,
        "rows": len(rows),
        "packing_efficiency": round(int(rows.piece_lengths.sum()) / room, 4),
        "target_fraction": round(targets / room, 4),
    }

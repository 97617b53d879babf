"""Turns rows of a split into the batches that an objective learns from."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from rfr.data.pack.best_fit import Placement
from rfr.data.pack.rows import WIDTH_STEP, PackedRows
from rfr.data.preference_pairs import PreferencePairs
from rfr.records import IGNORE, AdvantageBatch, AnyBatch, Batch, PreferenceBatch, Rows


class BatchSource(Protocol):
    """Rows by their number. `packed`: all as wide as the block; else each is as long as `row_lengths` (int64) says."""

    @property
    def packed(self) -> bool: ...
    @property
    def row_lengths(self) -> np.ndarray: ...
    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, together: np.ndarray) -> AnyBatch:
        """These rows; index -1 stands for a row without targets.

        Args:
            together: all rows over which the loss is a mean: those of the optimizer batch, or of the validation.
        """
        ...


class _RowSource:
    """Rows as they are packed."""

    def __init__(self, rows: PackedRows) -> None:
        self.rows = rows

    @property
    def packed(self) -> bool:
        return self.rows.packed

    @property
    def row_lengths(self) -> np.ndarray:
        return self.rows.row_lengths

    def __len__(self) -> int:
        return len(self.rows)


class WeightedRows(_RowSource):
    """Rows and what their stories weigh.

    Args:
        weights: float64 of shape (stories,); None: all are 1.
    """

    def __init__(self, rows: PackedRows, weights: np.ndarray | None = None) -> None:
        super().__init__(rows)
        self.weights = np.ones(len(rows.stories)) if weights is None else weights

    def batch(self, indices: np.ndarray, together: np.ndarray) -> Batch:
        rows = _take_rows(self.rows, indices)
        return Batch(
            **_tensors(rows),
            weights_BT=torch.from_numpy(self.weights[rows.stories].astype(np.float32)),
            target_tokens=int(self.rows.row_targets[together].sum()),
        )


class AdvantageRows(_RowSource):
    """Rows, and by how much each of their stories is better than expected.

    Args:
        advantages: float64 of shape (stories,).
        drawn: of each story the log-probability under the policy that wrote it, float64; NaN: that policy is the one that learns.
    """

    def __init__(self, rows: PackedRows, advantages: np.ndarray, drawn: np.ndarray) -> None:
        super().__init__(rows)
        self.advantages, self.drawn = advantages, drawn
        self._documents = np.searchsorted(rows.pieces.row, np.arange(len(rows) + 1))
        self._has_ratios = not bool(np.isnan(drawn).all())  # of all rows: under ZeRO-3 ranks must call the same layers

    def batch(self, indices: np.ndarray, together: np.ndarray) -> AdvantageBatch:
        rows = _take_rows(self.rows, indices)
        stories = np.concatenate([self._stories_of(row) for row in _standing_in(indices)])
        return AdvantageBatch(
            **_tensors(_numbered_through(rows)),
            advantage_S=torch.from_numpy(self.advantages[stories].astype(np.float32)),
            drawn_S=torch.from_numpy(self.drawn[stories].astype(np.float32)),
            has_ratios=self._has_ratios,
            stories=max(1, int(np.diff(self._documents)[together].sum())),
            target_tokens=int(self.rows.row_targets[together].sum()),
        )

    def _stories_of(self, row: int) -> np.ndarray:
        return self.rows.pieces.story[slice(*self._documents[row : row + 2])]


class PairRows:
    """A group of one thread's stories to a row, each from its beginning and as far as the block goes, and the pairs among them.

    Args:
        reference: for each entry of `comparisons.story`, the log-probability of its targets under the policy that training begins
            with, float64; None: the loss does not need it.
    """

    packed = False

    def __init__(self, rows: PackedRows, comparisons: PreferencePairs, reference: np.ndarray | None = None) -> None:
        self.rows, self.comparisons = truncate_to_block(rows, comparisons.story, comparisons.group), comparisons
        self.reference = np.zeros(len(comparisons.story)) if reference is None else reference
        groups = np.arange(len(self.rows) + 1)
        self._documents = np.searchsorted(comparisons.group, groups)
        self._pairs = np.searchsorted(comparisons.group[comparisons.chosen], groups)

    @cached_property
    def row_lengths(self) -> np.ndarray:
        return self.rows.row_lengths

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray, together: np.ndarray) -> PreferenceBatch:
        rows = _take_rows(self.rows, indices)
        documents = [np.arange(*self._documents[row : row + 2]) for row in _standing_in(indices)]
        before = np.cumsum([0, *map(len, documents)])
        pairs = [self._pairs_of(row) + before[number] for number, row in enumerate(indices) if row >= 0]
        chosen, rejected = torch.from_numpy(np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1))
        return PreferenceBatch(
            **_tensors(_numbered_through(rows)),
            ends_S=torch.from_numpy(document_ends(rows.documents)),
            reference_S=torch.from_numpy(self.reference[np.concatenate(documents)].astype(np.float32)),
            chosen_P=chosen,
            rejected_P=rejected,
            pairs=max(1, int(np.diff(self._pairs)[together].sum())),  # a round's step may have none
            target_tokens=max(1, int(self.rows.row_targets[together].sum())),
        )

    def with_reference(self, reference: np.ndarray) -> PairRows:
        """The same pairs; see `reference` above."""
        other = copy(self)
        other.reference = reference
        return other

    def _pairs_of(self, row: int) -> np.ndarray:
        """Chosen and rejected, counted from the row's first document; shape (2, pairs)."""
        of_row = slice(*self._pairs[row : row + 2])
        return np.stack([self.comparisons.chosen[of_row], self.comparisons.rejected[of_row]]) - self._documents[row]


def truncate_to_block(rows: PackedRows, story: np.ndarray, row: np.ndarray) -> PackedRows:
    """These stories in these rows, each after its prompt and from its beginning, as far as the block goes.

    Args:
        story, row: int arrays of equal length, sorted by row.
    """
    prompts, length = (rows.stories[:, 1] - rows.stories[:, 0])[story], rows.story_tokens[story]
    # The last token of a document is only a label. In a whole story that is end-of-text, which `end` does not count;
    # a truncated story of n tokens, or one without an end, takes n - 1 positions behind its prompt.
    endless = np.zeros(len(story), bool) if rows.cut_off is None else rows.cut_off[story]
    end = np.where(prompts + length - endless <= rows.block, length, np.minimum(length - 1, rows.block + 1 - prompts))
    plan = Placement(story=story, start=np.zeros_like(end), end=end, row=row)
    truncated = replace(rows, pieces=plan, packed=False)
    return replace(truncated, block=max(rows.block, int(truncated.row_lengths.max())))


def batches_by_tokens(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Rows of like length together, the longest first: so many that they have, padding included, `tokens` at most. A row that is
    longer is alone.

    Args:
        lengths: of the rows, int64.
    """
    order, batches, begin = np.argsort(-lengths, kind="stable"), list[np.ndarray](), 0
    while begin < len(order):
        width = -(-int(lengths[order[begin]]) // WIDTH_STEP) * WIDTH_STEP
        batches.append(order[begin : begin + max(1, tokens // width)])
        begin += len(batches[-1])
    return batches


def document_ends(documents: np.ndarray) -> np.ndarray:
    """Places of the documents' last tokens in the flattened rows, int64 of shape (documents,).

    Args:
        documents: numbers within each row, 0 on padding, shape (rows, T).
    """
    following = np.pad(documents[:, 1:], ((0, 0), (0, 1)))
    return np.flatnonzero((documents != following) & (documents > 0))


def _standing_in(indices: np.ndarray) -> np.ndarray:
    """A row for -1: any will do; a short one is the cheapest."""
    return np.where(indices >= 0, indices, max(0, indices.max()))


def _take_rows(rows: PackedRows, indices: np.ndarray) -> Rows:
    packed = rows.take(_standing_in(indices))
    return replace(packed, labels=np.where(indices[:, None] >= 0, packed.labels, IGNORE))


def _numbered_through(rows: Rows) -> Rows:
    """Documents counted through all rows instead of within each."""
    before = np.cumsum(np.append(0, rows.documents.max(axis=1)[:-1]))
    return replace(rows, documents=np.where(rows.documents > 0, rows.documents + before[:, None], 0))


def _tensors(rows: Rows) -> dict[str, torch.Tensor]:
    names = ("input_ids", "labels", "positions", "documents")
    return {f"{name}_BT": torch.from_numpy(getattr(rows, name).astype(np.int64)) for name in names}

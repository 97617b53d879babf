"""Decides which rows come when, alike for every number of ranks; wires that into Lightning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import Dataset

from rfr.data.batches import BatchSource
from rfr.records import Batch, PreferenceBatch
from rfr.utils.parallel import prefetch

BUCKET_STEPS = 16


class TrainBatches(Dataset[Batch | PreferenceBatch]):
    """Micro-batch i of a run, for one rank. Row order depends on the seed and the epoch, never on the rank layout.

    Optimizer step s consumes the global rows [s * G, (s + 1) * G), G = accumulation * ranks * micro-batch, of an
    endless stream of shuffled epochs; so a resumed run needs no more than the number of its next step. Where rows are not
    packed, the rows of each BUCKET_STEPS steps are dealt to these steps by length, so that little is padded.
    """

    def __init__(
        self,
        rows: BatchSource,
        *,
        micro_batch: int,
        accumulate: int,
        steps: int,
        seed: int,
        rank: int,
        ranks: int,
    ) -> None:
        self._rows, self._seed = rows, seed
        self._micro, self._accumulate, self._rank, self._ranks = micro_batch, accumulate, rank, ranks
        self._length = steps * accumulate
        self._bucket = -1, np.zeros((0, 0), np.int64)  # the latest, by its number

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch | PreferenceBatch:
        step, part = divmod(index, self._accumulate)
        per_step = self._accumulate * self._ranks * self._micro
        of_step = self._rows_of(step, per_step)
        start = (part * self._ranks + self._rank) * self._micro
        return self._rows.batch(of_step[start : start + self._micro], of_step)

    def _rows_of(self, step: int, per_step: int) -> np.ndarray:
        if self._rows.packed:
            return self._row_indices(np.arange(step * per_step, (step + 1) * per_step))
        bucket, place = divmod(step, BUCKET_STEPS)
        if bucket != self._bucket[0]:
            rows = self._row_indices(np.arange(bucket * BUCKET_STEPS * per_step, (bucket + 1) * BUCKET_STEPS * per_step))
            by_length = rows[np.argsort(self._rows.row_lengths[rows], kind="stable")].reshape(BUCKET_STEPS, per_step)
            self._bucket = bucket, np.random.default_rng([self._seed, bucket, BUCKET_STEPS]).permutation(by_length)
        return self._bucket[1][place]

    def _row_indices(self, slots: np.ndarray) -> np.ndarray:
        epochs, places = np.divmod(slots, len(self._rows))
        return np.array([_permutation(self._seed, e, len(self._rows))[p] for e, p in zip(epochs, places, strict=True)])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, int(epoch)]).permutation(length)


class ValidationBatches(Dataset[Batch | PreferenceBatch]):
    """All rows once, or `limit` of them spread evenly, dealt to the ranks in turn.

    A rank that runs short gets rows without targets.
    """

    def __init__(self, rows: BatchSource, *, micro_batch: int, rank: int, ranks: int, limit: int | None = None) -> None:
        self._rows, self._micro, self._rank, self._ranks = rows, micro_batch, rank, ranks
        # Evenly, since packing has sorted the rows by length.
        self._chosen = np.linspace(0, len(rows) - 1, min(limit or len(rows), len(rows))).astype(np.int64)

    def __len__(self) -> int:
        return -(-len(self._chosen) // (self._micro * self._ranks))

    def __getitem__(self, index: int) -> Batch | PreferenceBatch:
        start = (index * self._ranks + self._rank) * self._micro
        indices = np.full(self._micro, -1)
        mine = self._chosen[start : start + self._micro]
        indices[: len(mine)] = mine
        return self._rows.batch(indices, self._chosen)


class Prefetched:
    """The batches from `start` on, each made in a thread while the one before it is learnt from.

    Its length is that of all: Lightning counts the batches before a resumed run's start as done.
    """

    def __init__(self, batches: Dataset[Batch | PreferenceBatch], total: int, start: int = 0) -> None:
        self._batches, self._total, self._start = batches, total, start

    def __iter__(self) -> Iterator[Batch | PreferenceBatch]:
        return prefetch(self._batches.__getitem__, range(self._start, self._total), ahead=1)

    def __len__(self) -> int:
        return self._total


class RowDataModule(pl.LightningDataModule):
    """Train and validation loaders for the rank that asks.

    Args:
        start_step: optimizer steps already done, when resuming.
        validation_rows: validate on this many rows, None for all.
    """

    def __init__(
        self, train: BatchSource, validation: BatchSource, *, micro_batch: int, accumulate: int, steps: int, seed: int,
        start_step: int = 0, validation_rows: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._train, self._validation = train, validation
        self._micro, self._accumulate, self._steps, self._seed = micro_batch, accumulate, steps, seed
        self._start, self._validation_rows = start_step * accumulate, validation_rows

    def train_dataloader(self) -> Prefetched:
        assert self.trainer is not None
        batches = TrainBatches(
            self._train, micro_batch=self._micro, accumulate=self._accumulate, steps=self._steps, seed=self._seed,
            rank=self.trainer.global_rank, ranks=self.trainer.world_size,
        )  # fmt: skip
        return Prefetched(batches, len(batches), self._start)

    def val_dataloader(self) -> Prefetched:
        assert self.trainer is not None
        batches = ValidationBatches(
            self._validation, micro_batch=self._micro, rank=self.trainer.global_rank, ranks=self.trainer.world_size,
            limit=self._validation_rows,
        )  # fmt: skip
        return Prefetched(batches, len(batches))

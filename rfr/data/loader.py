"""Decides which rows come when, alike for every number of ranks; wires that into Lightning."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import Dataset

from rfr.data.batches import BatchSource
from rfr.records import AnyBatch
from rfr.utils.parallel import prefetch

BUCKET_STEPS = 16


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How the rows of a run become its micro-batches.

    Args:
        micro_batch: rows of one rank in a micro-batch.
        accumulate: micro-batches of a rank in an optimizer step.
        steps: optimizer steps of the run.
        seed: seeds the order of the rows.
    """

    micro_batch: int
    accumulate: int
    steps: int
    seed: int

    @property
    def micro_batches(self) -> int:
        """Those of one rank in the whole run."""
        return self.steps * self.accumulate


class TrainBatches(Dataset[AnyBatch]):
    """Micro-batch i of a run, for one rank. Row order depends on the seed and the epoch, never on the rank layout.

    Optimizer step s consumes the global rows [s * G, (s + 1) * G), G = accumulation * ranks * micro-batch, of an
    endless stream of shuffled epochs; so a resumed run needs no more than the number of its next step. Where rows are not
    packed, the rows of each BUCKET_STEPS steps are dealt to these steps by length, so that little is padded.
    """

    def __init__(self, rows: BatchSource, batching: Batching, *, rank: int, ranks: int) -> None:
        self._rows = rows
        self._batching = batching
        self._rank, self._ranks = rank, ranks
        self._bucket = -1, np.zeros((0, 0), np.int64)  # number and rows of the latest bucket

    def __len__(self) -> int:
        return self._batching.micro_batches

    def __getitem__(self, index: int) -> AnyBatch:
        step, part = divmod(index, self._batching.accumulate)
        rows = self._rows_of(step, self._batching.accumulate * self._ranks * self._batching.micro_batch)
        start = (part * self._ranks + self._rank) * self._batching.micro_batch
        return self._rows.batch(rows[start : start + self._batching.micro_batch], rows)

    def _rows_of(self, step: int, per_step: int) -> np.ndarray:
        if self._rows.packed:
            return self._row_indices(np.arange(step * per_step, (step + 1) * per_step))
        bucket, step_in_bucket = divmod(step, BUCKET_STEPS)
        if bucket != self._bucket[0]:
            rows = self._row_indices(np.arange(bucket * BUCKET_STEPS * per_step, (bucket + 1) * BUCKET_STEPS * per_step))
            by_length = rows[np.argsort(self._rows.row_lengths[rows], kind="stable")].reshape(BUCKET_STEPS, per_step)
            self._bucket = bucket, np.random.default_rng([self._batching.seed, bucket, BUCKET_STEPS]).permutation(by_length)
        return self._bucket[1][step_in_bucket]

    def _row_indices(self, slots: np.ndarray) -> np.ndarray:
        epochs, positions = np.divmod(slots, len(self._rows))
        seed, count = self._batching.seed, len(self._rows)
        return np.array([_permutation(seed, e, count)[p] for e, p in zip(epochs, positions, strict=True)])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, int(epoch)]).permutation(length)


class ValidationBatches(Dataset[AnyBatch]):
    """All rows once, or `limit` of them spread evenly, dealt to the ranks in turn.

    A rank that runs short gets rows without targets.
    """

    def __init__(self, rows: BatchSource, *, micro_batch: int, rank: int, ranks: int, limit: int | None = None) -> None:
        self._rows, self._micro, self._rank, self._ranks = rows, micro_batch, rank, ranks
        # Spread evenly, since packing has sorted the rows by length.
        self._chosen = np.linspace(0, len(rows) - 1, min(limit or len(rows), len(rows))).astype(np.int64)

    def __len__(self) -> int:
        return -(-len(self._chosen) // (self._micro * self._ranks))

    def __getitem__(self, index: int) -> AnyBatch:
        start = (index * self._ranks + self._rank) * self._micro
        indices = np.full(self._micro, -1)
        mine = self._chosen[start : start + self._micro]
        indices[: len(mine)] = mine
        return self._rows.batch(indices, self._chosen)


class Prefetched:
    """The batches from `start` on, each made in a thread while the one before it is learnt from.

    Its length counts all batches: Lightning takes those before a resumed run's start for done.
    """

    def __init__(self, batches: Dataset[AnyBatch], total: int, start: int = 0) -> None:
        self._batches, self._total, self._start = batches, total, start

    def __iter__(self) -> Iterator[AnyBatch]:
        return prefetch(self._batches.__getitem__, range(self._start, self._total), ahead=1)

    def __len__(self) -> int:
        return self._total


class RowDataModule(pl.LightningDataModule):
    """Train and validation loaders for the rank that asks.

    Args:
        validations: each becomes a loader.
        start_step: optimizer steps already done, when resuming.
        validation_rows: validate on this many rows, None for all.
    """

    def __init__(
        self,
        train: BatchSource | None,
        validations: SequenceOf[BatchSource],
        batching: Batching,
        start_step: int = 0,
        validation_rows: int | None = None,
    ) -> None:
        super().__init__()
        self._train, self._validations = train, validations
        self._batching = batching
        self._start = start_step * batching.accumulate
        self._validation_rows = validation_rows

    def train_dataloader(self) -> Prefetched:
        assert self.trainer is not None
        assert self._train is not None
        batches = TrainBatches(self._train, self._batching, rank=self.trainer.global_rank, ranks=self.trainer.world_size)
        return Prefetched(batches, len(batches), self._start)

    def val_dataloader(self) -> list[Prefetched]:
        assert self.trainer is not None
        loaders = []
        for rows in self._validations:
            batches = ValidationBatches(
                rows,
                micro_batch=self._batching.micro_batch,
                rank=self.trainer.global_rank,
                ranks=self.trainer.world_size,
                limit=self._validation_rows,
            )
            loaders.append(Prefetched(batches, len(batches)))
        return loaders

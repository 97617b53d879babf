"""Deals a round's rows over its optimizer steps, their micro-batches and the ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from rfr.data.batches import BatchSource, batches_by_tokens
from rfr.data.loader import Batching
from rfr.data.pack.rows import WIDTH_STEP
from rfr.objective.own_stories import RoundData
from rfr.records import AnyBatch

NO_ROW, NO_ROWS = np.array([-1]), np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class DealtRound:
    """Rows and the micro-batches of each step; of micro-batch m, `ranks` ranks take those from m * ranks on."""

    source: BatchSource
    steps: list[list[np.ndarray]]

    def batch(self, step: int, micro_batch: int, rank: int, ranks: int) -> AnyBatch:
        parts, place = self.steps[step], micro_batch * ranks + rank
        return self.source.batch(parts[place] if place < len(parts) else NO_ROW, np.concatenate([NO_ROWS, *parts]))


def deal(data: RoundData, steps: int, block: int, batching: Batching, ranks: int, number: int) -> DealtRound:
    """The policy's own stories and people's, each evenly over the steps; in a step, rows of like length go together.

    No micro-batch has more tokens than `micro_batch` rows of the block, or of the longest row where that is longer.

    Args:
        steps: of the round.
        number: of the round; with the seed it decides which row is learned in which step.
    """
    lengths = data.source.row_lengths
    widest = -(-max(block, int(lengths.max())) // WIDTH_STEP) * WIDTH_STEP
    generator = np.random.default_rng([batching.seed, number])
    shares = [
        np.array_split(generator.permutation(rows), steps) for rows in (np.flatnonzero(~data.people), np.flatnonzero(data.people))
    ]
    dealt = []
    for own, people in zip(*shares, strict=True):
        rows = np.append(own, people)
        parts = [rows[part] for part in batches_by_tokens(lengths[rows], batching.micro_batch * widest)]
        assert len(parts) <= batching.accumulate * ranks, "a row of each micro-batch is as wide as the widest"
        dealt.append(parts)
    return DealtRound(source=data.source, steps=dealt)


class RoundLoader:
    """Micro-batches of one rank, round by round. A round is opened when its first micro-batch is asked for: by then the policy
    has learned from the round before.

    Its length counts all batches: Lightning takes those before a resumed run's start for done.

    Args:
        open_round: from a round's number.
        steps: optimizer steps of a round.
        start: micro-batches that are done.
    """

    def __init__(
        self, open_round: Callable[[int], DealtRound], steps: int, batching: Batching, start: int, rank: int, ranks: int
    ) -> None:
        self._open, self._steps, self._batching, self._start = open_round, steps, batching, start
        self._rank, self._ranks = rank, ranks

    def __iter__(self) -> Iterator[AnyBatch]:
        opened: tuple[int, DealtRound] | None = None
        for index in range(self._start, len(self)):
            step, micro_batch = divmod(index, self._batching.accumulate)
            number, step_in_round = divmod(step, self._steps)
            if opened is None or opened[0] != number:
                opened = number, self._open(number)
            yield opened[1].batch(step_in_round, micro_batch, self._rank, self._ranks)

    def __len__(self) -> int:
        return self._batching.micro_batches

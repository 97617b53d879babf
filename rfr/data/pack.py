"""Fill rows of exactly `block_size` tokens with whole sequences, best fit first; documents stay apart by their ids."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

from rfr.records import IGNORE, Rows, Sequence


def best_fit(lengths: SequenceOf[int], block_size: int) -> list[list[int]]:
    """Rows of indices: longest first, each into the fullest row that still holds it (best-fit decreasing)."""
    assert all(0 < length <= block_size for length in lengths)
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(block_size + 1)]  # by room left
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        room = next((room for room in range(length, block_size + 1) if open_rows[room]), None)
        if room is None:
            rows.append([])
            row, room = len(rows) - 1, block_size
        else:
            row = open_rows[room].pop()
        rows[row].append(index)
        open_rows[room - length].append(row)
    return rows


def pack(sequences: SequenceOf[Sequence], block_size: int) -> Rows:
    """Sequences into N rows of T = block_size tokens; padding has document 0, token 0 and no target."""
    plan = best_fit([len(sequence.input_ids) for sequence in sequences], block_size)
    return fill_rows([[sequences[i] for i in row] for row in plan], block_size)


def fill_rows(plan: SequenceOf[SequenceOf[Sequence]], block_size: int) -> Rows:
    shape = (len(plan), block_size)
    rows = Rows(
        input_ids=np.zeros(shape, np.int32), labels=np.full(shape, IGNORE, np.int32), positions=np.zeros(shape, np.int32),
        documents=np.zeros(shape, np.int32), stories=np.zeros(shape, np.int32),
    )  # fmt: skip
    for n, row in enumerate(plan):
        start = 0
        for document, sequence in enumerate(row, start=1):
            place = (n, slice(start, start + len(sequence.input_ids)))
            rows.input_ids[place], rows.labels[place] = sequence.input_ids, sequence.labels
            rows.positions[place] = np.arange(len(sequence.input_ids))
            rows.documents[place], rows.stories[place] = document, sequence.story
            start = place[1].stop
    return rows

"""Lays the probe's documents out in rows, and finds them again in what a model makes of these."""

from __future__ import annotations

import torch

from rfr.records import IGNORE, Batch

PADDING_TOKENS = 5  # behind the documents


def batch_of(documents: list[torch.Tensor], packed: bool) -> Batch:
    """All documents in one row, or each in its own, padding behind them."""
    rows = [documents] if packed else [[document] for document in documents]
    width = max(sum(len(document) - 1 for document in row) for row in rows) + PADDING_TOKENS
    columns: dict[str, list[torch.Tensor]] = {"input_ids": [], "labels": [], "positions": [], "documents": []}
    for row in rows:
        lengths = [len(document) - 1 for document in row]
        filled = {
            "input_ids": [document[:-1] for document in row], "labels": [document[1:] for document in row],
            "positions": [torch.arange(length) for length in lengths],
            "documents": [torch.full((length,), number) for number, length in enumerate(lengths, start=1)],
        }  # fmt: skip
        for name, parts in filled.items():
            padding = torch.full((width - sum(lengths),), IGNORE if name == "labels" else 0)
            columns[name].append(torch.cat([*parts, padding]))
    tensors = {f"{name}_BT": torch.stack(column) for name, column in columns.items()}
    return Batch(**tensors, weights_BT=torch.ones(len(rows), width), target_tokens=1)


def by_document(batch: Batch, values_BT: torch.Tensor) -> list[torch.Tensor]:
    rows = range(len(batch.documents_BT))
    numbers = range(1, int(batch.documents_BT.max()) + 1)
    return [values_BT[row][batch.documents_BT[row] == number] for row in rows for number in numbers]

"""Attention within documents. On a GPU SDPA takes a mask; on a CPU each document is attended to by itself, which costs the square
of its own length and not of the row's."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "isolated_documents"


def document_mask(documents_BT: torch.Tensor) -> torch.Tensor:
    """What the model takes as its attention mask: on a GPU the dense one, on a CPU the document ids, (B, 1, 1, T)."""
    return dense_mask(documents_BT) if documents_BT.is_cuda else documents_BT[:, None, None, :]


def dense_mask(documents_BT: torch.Tensor) -> torch.Tensor:
    """True where a token may look: itself and earlier tokens of its own document; shape (B, 1, T, T).

    Restarting positions alone would not isolate documents. Padding is a document too, so no row of the mask is empty.
    """
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    return same_BTT.tril()[:, None]


def isolated_documents(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, **named: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """transformers' attention function; (B, heads, T, D) to (B, T, heads, D). Any other mask than document ids is SDPA's."""
    if attention_mask is None or attention_mask.dtype != torch.int64:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **named)
    rows = []
    for row, documents in enumerate(attention_mask[:, 0, 0]):
        lengths = torch.unique_consecutive(documents, return_counts=True)[1].tolist()
        parts = zip(*(tensor[row].split(lengths, dim=1) for tensor in (query, key, value)), strict=True)
        rows.append(torch.cat([
            scaled_dot_product_attention(
                q[None], k[None], v[None], dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=len(q) != len(k)
            ).transpose(1, 2)
            for q, k, v in parts
        ], dim=1))  # fmt: skip
    return torch.cat(rows), None


AttentionInterface.register(NAME, isolated_documents)
AttentionMaskInterface.register(NAME, sdpa_mask)

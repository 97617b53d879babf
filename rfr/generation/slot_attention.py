"""transformers' attention function for one new token per slot: each slot attends to its own story's tokens and to no others."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rfr.generation.kernels import kernels_for

NAME = "one_token_per_slot"
LENGTH_STEP = 64  # tokens; slots have room for a multiple of it, and SDPA reads up to a multiple of it


def one_token_per_slot(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, **named: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """(slots, heads, 1, D) to (slots, 1, heads, D).

    Args:
        key, value: (slots, shared heads, length, D), with room for longer stories.
        attention_mask: the place of each story's new token; int64 of shape (slots, 1, 1, 1).

    Raises:
        NotImplementedError: the architecture asks for a window, a cap or a sink.
    """
    asked = [name for name in ("sliding_window", "softcap", "s_aux", "position_bias") if named.get(name) is not None]
    if asked:
        raise NotImplementedError(f"attention with {', '.join(asked)}")
    assert attention_mask is not None
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    places = attention_mask[:, 0, 0, 0]
    if (kernels := kernels_for(query.device)) is not None:
        return kernels.attend(query[:, :, 0].contiguous(), None, None, key, value, places, scaling)[:, None], None
    longest = min(-(-int(places.max() + 1) // LENGTH_STEP) * LENGTH_STEP, key.shape[2])
    mask = (torch.arange(longest, device=query.device) <= places[:, None])[:, None, None]
    return sdpa_attention_forward(module, query, key[:, :, :longest], value[:, :, :longest], mask, scaling=scaling)


AttentionInterface.register(NAME, one_token_per_slot)
AttentionMaskInterface.register(NAME, sdpa_mask)

"""transformers' attention function for one new token per slot: each slot attends to its own story's tokens and to no others."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "one_token_per_slot"
LENGTH_STEP = 64  # SDPA reads keys up to a multiple of it


@cache
def _compiled() -> Any:
    """The C++ function; compiled where it was not yet, which takes a minute. None where there is no compiler."""
    from torch.utils.cpp_extension import load

    source, flags = Path(__file__).with_suffix(".cpp"), ["-O3", "-march=native", "-ffast-math", "-fopenmp-simd"]
    try:
        return load("rfr_slot_attention", [str(source)], extra_cflags=flags).attend
    except (OSError, RuntimeError, ImportError) as error:
        print(f"warning: {source.name} can't be compiled ({str(error).splitlines()[0][:120]}): sampling is slower", flush=True)
        return None


def one_token_per_slot(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, **named: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """(slots, heads, 1, D) to (slots, 1, heads, D).

    Args:
        key, value: (slots, shared heads, length, D), with room for longer stories.
        attention_mask: the length of each story, the new token included; int64 of shape (slots, 1, 1, 1).

    Raises:
        NotImplementedError: the architecture asks for a window, a cap or a sink.
    """
    asked = [name for name in ("sliding_window", "softcap", "s_aux", "position_bias") if named.get(name) is not None]
    if asked:
        raise NotImplementedError(f"attention with {', '.join(asked)}")
    assert attention_mask is not None
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    lengths = attention_mask[:, 0, 0, 0]
    attend = _compiled() if query.device.type == "cpu" else None
    if attend is not None:
        return attend(query[:, :, 0].contiguous(), key, value, lengths, scaling)[:, None], None
    longest = min(-(-int(lengths.max()) // LENGTH_STEP) * LENGTH_STEP, key.shape[2])
    mask = (torch.arange(longest, device=query.device) < lengths[:, None])[:, None, None]
    return sdpa_attention_forward(module, query, key[:, :, :longest], value[:, :, :longest], mask, scaling=scaling)


AttentionInterface.register(NAME, one_token_per_slot)
AttentionMaskInterface.register(NAME, sdpa_mask)

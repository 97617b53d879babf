"""Mixtures of experts on a CPU: pads the tokens of each expert to a multiple.

The router sends each expert another number of tokens in every row, and oneDNN compiles and caches a kernel per shape: without the
padding it would compile each product anew and keep all of the kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

NAME = "padded_experts"
TOKEN_STEP = 64


def pad_experts(model: PreTrainedModel) -> None:
    """Let the model's experts, if it has any, take `padded_experts`."""
    if model.config._experts_implementation == "grouped_mm":
        model.set_experts_implementation(NAME)


def padded_experts(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """transformers' experts function. Few tokens, as in generation, and those on a GPU take transformers' own.

    Args:
        hidden_states: (N, width) of N tokens.
        top_k_index: (N, k), the experts of each.
        top_k_weights: (N, k), the weights of their results.
    """
    if hidden_states.is_cuda or len(hidden_states) < TOKEN_STEP:
        return grouped_mm_experts_forward(self, hidden_states, top_k_index, top_k_weights)
    experts, k = top_k_index.reshape(-1), top_k_index.shape[-1]
    counts = torch.bincount(experts, minlength=self.num_experts)
    filler = torch.arange(len(counts)).repeat_interleave(-counts % TOKEN_STEP)
    tokens = torch.cat([hidden_states.repeat_interleave(k, 0), hidden_states.new_zeros(len(filler), hidden_states.shape[-1])])
    weights = torch.cat([top_k_weights.reshape(-1), top_k_weights.new_zeros(len(filler))])
    mixed = grouped_mm_experts_forward(self, tokens, torch.cat([experts, filler])[:, None], weights[:, None])
    return mixed[: len(experts)].view(len(hidden_states), k, -1).sum(1)


ALL_EXPERTS_FUNCTIONS.register(NAME, padded_experts)

"""Collects the weights of GPT-2 and Llama for their compiled forward pass, which reads one new token per slot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from rfr.generation.kernels import kernels_for
from rfr.generation.slot_cache import SlotCache

# Parameters of the models whose matrices are packed, so that a few rows times a matrix in main memory take less time. Those of
# smaller models fit into the processor's cache; the copies of larger ones would take gigabytes.
PACKED = (10_000_000, 500_000_000)
TANH_GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")


class CompiledPass(NamedTuple):
    """`logits` makes the next tokens' logits (S, V) of tokens (S,) and their cache, which `cache_shape` allocates: layers, heads,
    D."""

    logits: Callable[[torch.Tensor, SlotCache], torch.Tensor]
    cache_shape: tuple[int, int, int]


def written_out(model: PreTrainedModel) -> Callable[[int], CompiledPass] | None:
    """Makes the model's forward pass for so many slots, with its weights as they then are.

    None where it has another architecture, or its weights are not here in one piece.
    """
    in_parts = any(hasattr(parameter, "ds_id") for parameter in model.parameters())  # by ZeRO-3, which frees them at any time
    if in_parts or kernels_for(model.device) is None:
        return None
    if type(model) is GPT2LMHeadModel and model.config.activation_function in TANH_GELU and not model.config.add_cross_attention:
        return partial(_gpt2, model)
    if type(model) is LlamaForCausalLM and model.config.hidden_act == "silu":
        return partial(_llama, model)
    return None


def _gpt2(model: Any, slots: int) -> CompiledPass:
    body, kernels, pack = model.transformer, kernels_for(model.device), _packer(model, slots)
    head = _head(model, pack)
    ends = [body.wte.weight, body.wpe.weight, body.ln_f.weight, body.ln_f.bias]
    layers = [
        [tensor for norm, matrices in ((b.ln_1, (b.attn.c_attn, b.attn.c_proj)), (b.ln_2, (b.mlp.c_fc, b.mlp.c_proj)))
         for tensor in (norm.weight, norm.bias, *(part for m in matrices for part in (pack(m.weight.t()), m.bias)))]
        for b in body.h
    ]  # fmt: skip
    scalings, width, epsilon = [b.attn.scaling for b in body.h], body.h[0].attn.head_dim, body.ln_f.eps

    def logits(ids_S: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        return head(kernels.gpt2(ids_S, cache.places_S, ends, layers, cache.keys, cache.values, width, epsilon, scalings))

    return CompiledPass(logits, (len(layers), model.config.n_head, width))


def _llama(model: Any, slots: int) -> CompiledPass:
    body, kernels, pack = model.model, kernels_for(model.device), _packer(model, slots)
    head = _head(model, pack)
    matrices = [
        [b.self_attn.q_proj, b.self_attn.k_proj, b.self_attn.v_proj, b.self_attn.o_proj, b.mlp.gate_proj, b.mlp.up_proj,
         b.mlp.down_proj]
        for b in body.layers
    ]  # fmt: skip
    norms = [[b.input_layernorm.weight, b.post_attention_layernorm.weight] for b in body.layers]
    layers = [[pack(m.weight) for m in of_layer] + norm for of_layer, norm in zip(matrices, norms, strict=True)]
    biases, attention = [[m.bias for m in of_layer] for of_layer in matrices], body.layers[0].self_attn
    ends, epsilon = [body.embed_tokens.weight, body.norm.weight], body.norm.variance_epsilon

    def logits(ids_S: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        cos_S1D, sin_S1D = (table[0][:, None] for table in body.rotary_emb(ends[0], cache.places_S[None]))
        hidden_SD = kernels.llama(
            ids_S, cache.places_S, cos_S1D, sin_S1D, ends, layers, biases, cache.keys, cache.values, attention.head_dim, epsilon,
            attention.scaling,
        )  # fmt: skip
        return head(hidden_SD)

    return CompiledPass(logits, (len(layers), model.config.num_key_value_heads, attention.head_dim))


def _head(model: Any, pack: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The output layer, hidden states (S, D) to logits."""
    layer, kernels = model.get_output_embeddings(), kernels_for(model.device)
    if not isinstance(layer, nn.Linear):
        return layer
    weight, bias = pack(layer.weight), layer.bias
    return lambda hidden_SD: kernels.affine(hidden_SD, weight, bias)


def _packer(model: PreTrainedModel, slots: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Copies a matrix (out, in) as oneDNN reads it fastest, for so many rows; one that this would not help stays as it is."""
    if not is_worth_packing(model.num_parameters(), model.dtype):
        return lambda matrix: matrix
    return lambda matrix: torch.ops.mkldnn._reorder_linear_weight(matrix.detach().contiguous(), slots)


def is_worth_packing(parameters: int, dtype: torch.dtype) -> bool:
    """Whether a model's matrices are packed."""
    return dtype == torch.float32 and PACKED[0] <= parameters <= PACKED[1] and torch.backends.mkldnn.is_available()

"""Collects the weights of GPT-2 and Llama for their compiled forward pass, which reads one new token per slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from rfr.generation.kernels import kernels_for
from rfr.generation.slot_cache import SlotCache

TANH_GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")


class CompiledPass(NamedTuple):
    """`forward` makes hidden states (S, D) of tokens (S,) and their cache, which `cache_shape` allocates: layers, heads, D."""

    forward: Callable[[torch.Tensor, SlotCache], torch.Tensor]
    cache_shape: tuple[int, int, int]


def written_out(model: PreTrainedModel) -> CompiledPass | None:
    """The model's forward pass; None where it has another architecture, or its weights are not here in one piece."""
    in_parts = any(hasattr(parameter, "ds_id") for parameter in model.parameters())  # by ZeRO-3, which frees them at any time
    if in_parts or kernels_for(model.device) is None:
        return None
    if type(model) is GPT2LMHeadModel and model.config.activation_function in TANH_GELU and not model.config.add_cross_attention:
        return _gpt2(model)
    if type(model) is LlamaForCausalLM and model.config.hidden_act == "silu":
        return _llama(model)
    return None


def _gpt2(model: Any) -> CompiledPass:
    body, kernels = model.transformer, kernels_for(model.device)
    ends = [body.wte.weight, body.wpe.weight, body.ln_f.weight, body.ln_f.bias]
    layers = [
        [parameter for part in (b.ln_1, b.attn.c_attn, b.attn.c_proj, b.ln_2, b.mlp.c_fc, b.mlp.c_proj)
         for parameter in (part.weight, part.bias)]
        for b in body.h
    ]  # fmt: skip
    scalings, width, epsilon = [b.attn.scaling for b in body.h], body.h[0].attn.head_dim, body.ln_f.eps

    def forward(ids_S: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        return kernels.gpt2(ids_S, cache.places_S, ends, layers, cache.keys, cache.values, width, epsilon, scalings)

    return CompiledPass(forward, (len(layers), model.config.n_head, width))


def _llama(model: Any) -> CompiledPass:
    body, kernels = model.model, kernels_for(model.device)
    matrices = [
        [b.self_attn.q_proj, b.self_attn.k_proj, b.self_attn.v_proj, b.self_attn.o_proj, b.mlp.gate_proj, b.mlp.up_proj,
         b.mlp.down_proj]
        for b in body.layers
    ]  # fmt: skip
    norms = [[b.input_layernorm.weight, b.post_attention_layernorm.weight] for b in body.layers]
    layers = [[m.weight for m in of_layer] + norm for of_layer, norm in zip(matrices, norms, strict=True)]
    biases, attention = [[m.bias for m in of_layer] for of_layer in matrices], body.layers[0].self_attn
    ends, epsilon = [body.embed_tokens.weight, body.norm.weight], body.norm.variance_epsilon

    def forward(ids_S: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        cos_S1D, sin_S1D = (table[0][:, None] for table in body.rotary_emb(ends[0], cache.places_S[None]))
        return kernels.llama(
            ids_S, cache.places_S, cos_S1D, sin_S1D, ends, layers, biases, cache.keys, cache.values, attention.head_dim, epsilon,
            attention.scaling,
        )  # fmt: skip

    return CompiledPass(forward, (len(layers), model.config.num_key_value_heads, attention.head_dim))

"""GPT-2's and Llama's forward pass for one new token per slot, written out: it takes longer to call a tiny model's modules than to
compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import gelu, layer_norm, linear, rms_norm, silu
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from rfr.generation.kernels import kernels_for
from rfr.generation.slot_cache import SlotCache

Pass = Callable[[torch.Tensor, SlotCache], torch.Tensor]  # tokens that come next (S,), and their cache -> hidden states (S, D)
TANH_GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")


def written_out(model: PreTrainedModel) -> Pass | None:
    """The model's forward pass; None where it has another architecture, or its weights are not here in one piece."""
    whole = all(parameter.numel() for parameter in model.parameters())  # ZeRO-3 leaves empty ones
    if not whole or kernels_for(model.device) is None:
        return None
    if type(model) is GPT2LMHeadModel and model.config.activation_function in TANH_GELU and not model.config.add_cross_attention:
        return _gpt2(model)
    if type(model) is LlamaForCausalLM and model.config.hidden_act == "silu":
        return _llama(model)
    return None


def _gpt2(model: Any) -> Pass:
    body, attend = model.transformer, kernels_for(model.device).attend
    heads, width = model.config.n_head, (model.config.n_embd,)

    def normed(x: torch.Tensor, norm: Any) -> torch.Tensor:
        return layer_norm(x, width, norm.weight, norm.bias, norm.eps)

    def conv(x: torch.Tensor, layer: Any) -> torch.Tensor:
        return torch.addmm(layer.bias, x, layer.weight)

    def forward(ids_S: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        x = body.wte.weight[ids_S] + body.wpe.weight[cache.places_S]
        for block, keys, values in zip(body.h, cache.keys, cache.values, strict=True):
            q, k, v = (part.unflatten(1, (heads, -1)) for part in conv(normed(x, block.ln_1), block.attn.c_attn).chunk(3, 1))
            attended = attend(q, k, v, keys, values, cache.places_S, block.attn.scaling)
            x = x + conv(attended.flatten(1), block.attn.c_proj)
            x = x + conv(gelu(conv(normed(x, block.ln_2), block.mlp.c_fc), approximate="tanh"), block.mlp.c_proj)
        return normed(x, body.ln_f)

    return forward


def _llama(model: Any) -> Pass:
    body, attend = model.model, kernels_for(model.device).attend

    def normed(x: torch.Tensor, norm: Any) -> torch.Tensor:
        return rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)

    def forward(ids_S: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        x = body.embed_tokens.weight[ids_S]
        cos_S1D, sin_S1D = (table[0][:, None] for table in body.rotary_emb(x, cache.places_S[None]))
        for block, keys, values in zip(body.layers, cache.keys, cache.values, strict=True):
            attention, h = block.self_attn, normed(x, block.input_layernorm)
            of_heads = (linear(h, p.weight, p.bias) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
            q, k, v = (part.unflatten(1, (-1, attention.head_dim)) for part in of_heads)
            q, k = (part * cos_S1D + _half_turned(part) * sin_S1D for part in (q, k))
            attended = attend(q, k, v, keys, values, cache.places_S, attention.scaling)
            x = x + linear(attended.flatten(1), attention.o_proj.weight, attention.o_proj.bias)
            h, mlp = normed(x, block.post_attention_layernorm), block.mlp
            gate, up = (linear(h, layer.weight, layer.bias) for layer in (mlp.gate_proj, mlp.up_proj))
            x = x + linear(silu(gate) * up, mlp.down_proj.weight, mlp.down_proj.bias)
        return normed(x, body.norm)

    return forward


def _half_turned(x: torch.Tensor) -> torch.Tensor:
    one, other = x.chunk(2, -1)
    return torch.cat((-other, one), -1)

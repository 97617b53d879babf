"""How much a forward pass keeps for its backward pass: found out by running it on one and on two layers."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM, PretrainedConfig

from rfr.model.attention import NAME as ATTENTION
from rfr.model.precision import DTYPE

ODD = 3  # tokens fewer than a block: no activation then has the shape of a weight, by which casts of weights are told


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Bytes kept, parameters and their casts not counted: by each layer, and by what is before and behind the layers."""

    layer: int
    outside: int


def saved(config: PretrainedConfig, rows: int, block: int, precision: str, *, autocast: bool, checkpointing: bool) -> Saved:
    """Of a micro-batch of `rows` full rows.

    Args:
        autocast: parameters stay in fp32, matrix products are in `precision`.
        checkpointing: layers keep their input only.
    """
    shape = config.to_json_string(use_diff=False)
    kind: Any = type(config)  # whose instances can't be hashed, and so, mypy thinks, it can't
    one, two = (_kept(kind, shape, layers, rows, block, precision, autocast, checkpointing) for layers in (1, 2))
    return Saved(layer=two - one, outside=max(0, 2 * one - two))


@cache
def _kept(
    kind: Any, shape: str, layers: int, rows: int, block: int, precision: str, autocast: bool,
    checkpointing: bool,
) -> int:  # fmt: skip
    small = kind.from_dict(json.loads(shape))
    small.num_hidden_layers = layers
    dtype = DTYPE["bf16" if precision == "fp16" else precision]  # as large, and every CPU is quick at it
    model = AutoModelForCausalLM.from_config(small, attn_implementation=ATTENTION, dtype=torch.float32 if autocast else dtype)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    weights = {parameter.shape for parameter in model.parameters()} | {parameter.T.shape for parameter in matrices}
    sizes: dict[int, int] = {}
    alive = []  # or a storage's address could be another's later

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        bare = tensor.detach()  # with its history it would hold the graph that holds it, out of Python's sight and for good
        if tensor.shape not in weights:
            alive.append(bare)
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return bare

    length = block - ODD
    tokens = torch.zeros(rows, length, dtype=torch.int64)
    positions = torch.arange(length).expand(rows, length)
    computing = torch.autocast("cpu", dtype) if autocast and dtype != torch.float32 else nullcontext()
    with saved_tensors_hooks(keep, lambda tensor: tensor), computing:
        model.base_model(input_ids=tokens, attention_mask=tokens[:, None, None, :], position_ids=positions, use_cache=False)
    return round(sum(sizes.values()) * block / length)

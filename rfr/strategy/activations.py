"""Measures the bytes that a forward pass keeps for its backward pass, on shapes alone."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from rfr.model.attention import NAME as ATTENTION
from rfr.model.attention import hidden_states
from rfr.model.recompute import recompute_activations
from rfr.records import Batch
from rfr.strategy.precision import DTYPE

OFFSET = 3  # measured on block - 3 tokens, so that only casts of weights have the shape of a weight


@dataclass(frozen=True, kw_only=True)
class ActivationBytes:
    """Bytes kept, parameters and their casts not counted: by each layer, and by what is before and behind the layers."""

    layer: int
    outside: int


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """A forward pass over a micro-batch of full rows.

    Args:
        rows: rows of the micro-batch.
        block: tokens of a row.
        autocast: parameters stay in fp32, matrix products are in `precision`.
        checkpointing: layers keep their input only.
        recompute: where layers keep more than that, they do not keep the outputs of activation functions.
        attention: the implementation of attention.
    """

    rows: int
    block: int
    precision: str
    autocast: bool
    checkpointing: bool
    recompute: bool = True
    attention: str = ATTENTION


def activation_bytes(config: PretrainedConfig, forward: ForwardPass) -> ActivationBytes:
    """Bytes that a forward pass of the model keeps."""
    shape = config.to_json_string(use_diff=False)
    kind: Any = type(config)  # mypy takes the class for unhashable because its instances are
    one, two = (_bytes_with_layers(kind, shape, layers, forward) for layers in (1, 2))
    return ActivationBytes(layer=two - one, outside=max(0, 2 * one - two))


@cache
def _bytes_with_layers(kind: Any, shape: str, layers: int, forward: ForwardPass) -> int:
    small = kind.from_dict(json.loads(shape))
    small.num_hidden_layers = layers
    # bf16 for fp16: as large, and autocast knows it on every CPU.
    computed = DTYPE["bf16" if forward.precision == "fp16" else forward.precision]
    parameters, autocast = (torch.float32, computed) if forward.autocast else (computed, torch.float32)
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(small, attn_implementation=forward.attention, dtype=parameters)
        if forward.checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        length = forward.block - OFFSET
        kept = _bytes_kept(model, forward.rows, length, autocast, forward.recompute and not forward.checkpointing)
        return round(kept * forward.block / length)


def _bytes_kept(model: PreTrainedModel, rows: int, length: int, autocast: torch.dtype, recompute: bool) -> int:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    weights = {parameter.shape for parameter in model.parameters()} | {parameter.T.shape for parameter in matrices}
    sizes: dict[StorageWeakRef, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        bare = tensor.detach()  # with its history it would hold the graph that holds it, out of Python's sight and for good
        if tensor.shape not in weights:
            storage = tensor.untyped_storage()
            sizes[StorageWeakRef(storage)] = storage.nbytes()
        return bare

    if recompute:
        recompute_activations(model, keep)
    tokens, positions = torch.zeros(rows, length, dtype=torch.int64), torch.arange(length).expand(rows, length)
    batch = Batch(
        input_ids_BT=tokens, labels_BT=tokens, positions_BT=positions, documents_BT=tokens, weights_BT=tokens, target_tokens=1
    )
    computing = torch.autocast("cpu", autocast) if autocast != torch.float32 else nullcontext()
    with saved_tensors_hooks(keep, lambda tensor: tensor), computing:
        hidden_states(model, batch)
    return sum(sizes.values())

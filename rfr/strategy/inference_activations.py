"""Measures the bytes that a forward pass without a backward pass holds at its peak, on shapes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PretrainedConfig

from rfr.model.attention import hidden_states
from rfr.records import Batch

LAYERS = 2  # a layer's activations are freed when the next one has read them: more layers hold no more


def inference_bytes(config: PretrainedConfig, attention: str, rows: int, tokens: int) -> int:
    """Bytes that a pass through the model holds at its peak, in fp32; parameters and logits are not counted.

    Args:
        attention: its implementation.
        tokens: of a row.
    """
    kind: Any = type(config)  # mypy takes the class for unhashable because its instances are
    return _peak(kind, config.to_json_string(use_diff=False), attention, rows, tokens)


@cache
def _peak(kind: Any, shape: str, attention: str, rows: int, tokens: int) -> int:
    small = kind.from_dict(json.loads(shape))
    small.num_hidden_layers = LAYERS
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(small, attn_implementation=attention, dtype=torch.float32).eval()
        zeros, places = torch.zeros(rows, tokens, dtype=torch.int64), torch.arange(tokens).expand(rows, tokens)
        batch = Batch(
            input_ids_BT=zeros, labels_BT=zeros, positions_BT=places, documents_BT=zeros, weights_BT=zeros, target_tokens=1
        )
        with torch.no_grad(), LiveBytes() as live:
            hidden_states(model, batch)
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations inside make and that are still there. `peak`: the most so far."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = operation(*args, **(kwargs or {}))
        before = {StorageWeakRef(tensor.untyped_storage()) for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        for tensor in filter(_is_tensor, tree_leaves(given)):
            storage = StorageWeakRef(tensor.untyped_storage())
            if storage not in before:  # a view holds nothing of its own, and parameters were there before
                self._sizes[storage] = tensor.untyped_storage().nbytes()
        self._sizes = {storage: size for storage, size in self._sizes.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self._sizes.values()))
        return given


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor)

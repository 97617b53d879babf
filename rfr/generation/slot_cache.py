"""Keys and values of stories that are being written: one slot per story, allocated once."""

from __future__ import annotations

import mmap
from math import prod
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import Cache

from rfr.errors import UserError
from rfr.utils.malloc import GIB, free_bytes


class PrefixCache(Cache):
    """Keeps the keys and values of prompts that are read for the first time; per layer of shape (prompts, heads, T, D)."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        assert layer_idx == len(self.keys)
        self.keys.append(key_states)
        self.values.append(value_states)
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def require_memory(
    config: PretrainedConfig, dtype: torch.dtype, slots: int, length: int, device: torch.device, lanes: int = 1
) -> None:  # fmt: skip
    """Raises UserError where the keys and values of so many stories of so many tokens do not fit in the memory that is free."""
    of_a_slot = slot_bytes(config, dtype, length)
    fit = free_bytes(device) // of_a_slot
    if slots > fit:
        needed, free = slots * of_a_slot / GIB, fit * of_a_slot / GIB
        even = fit // lanes * lanes or fit  # every lane has as many
        remedy = f"set sampling.slots={even}" if fit else "shorten prompts or sampling.max_new_tokens"
        raise UserError(f"{slots} stories of {length} tokens at once take {needed:.1f} GiB, and {free:.1f} are free: {remedy}")


def slot_bytes(config: PretrainedConfig, dtype: torch.dtype, length: int) -> int:
    """Bytes of the keys and values of one story of so many tokens."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * length * dtype.itemsize


class SlotCache(Cache):
    """A row of `length` tokens for each of `slots` stories, per layer of shape (slots, heads, length, D).

    One token of each story comes in at a time, at the place that `places_S` says.
    """

    def __init__(self, slots: int, length: int, device: torch.device) -> None:
        super().__init__(layers=[])
        self._slots, self._length = slots, length
        self._rows_S = torch.arange(slots, device=device)
        self.places_S = torch.zeros(slots, dtype=torch.int64, device=device)
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Put the new tokens' keys and values of shape (slots, heads, 1, D) in their places; those of the whole layer."""
        if layer_idx == len(self.keys):
            self._allocate(key_states, value_states)
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[self._rows_S, :, self.places_S] = key_states[:, :, 0]
        values[self._rows_S, :, self.places_S] = value_states[:, :, 0]
        return keys, values

    def begin(self, slot: int, prefix: PrefixCache, row: int, tokens: int) -> None:
        """Put the first `tokens` of a prompt, which is a row of `prefix`, into a slot."""
        for layer, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
            if layer == len(self.keys):
                self._allocate(keys, values)
            self.keys[layer][slot, :, :tokens] = keys[row, :, :tokens]
            self.values[layer][slot, :, :tokens] = values[row, :, :tokens]

    def allocate(self, layers: int, heads: int, width: int, dtype: torch.dtype) -> None:
        """All layers at once; otherwise each is allocated when its first key comes."""
        like = torch.empty(0, heads, 0, width, dtype=dtype, device=self.places_S.device)
        for _ in range(layers):
            self._allocate(like, like)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def _allocate(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Zeros, since what was never written is multiplied with a probability of 0."""
        for own, like in ((self.keys, keys), (self.values, values)):
            shape = (self._slots, like.shape[1], self._length, like.shape[3])
            own.append(_zeros_when_touched(shape, like.dtype) if like.device.type == "cpu" else like.new_zeros(shape))


def _zeros_when_touched(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """In main memory, where only pages that are written to take room: most stories end before their slot is full. `torch.zeros`
    writes all of it, and `numpy.zeros` asks for huge pages."""
    memory = mmap.mmap(-1, prod(shape) * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=dtype).view(shape)

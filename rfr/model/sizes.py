"""The architectures of random models: the sizes that `conf/model/*.yaml` may set, and the config they make."""

from __future__ import annotations

from typing import Any

from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from rfr.errors import UserError
from rfr.ranges import AboveZero, Count


def gpt2(*, n_layer: Count, n_head: Count, n_embd: Count, initializer_range: AboveZero = 0.02, **more: Any) -> PretrainedConfig:
    """GPT-2 (Radford et al. 2019).

    Args:
        more: of the tokenizer and the block.

    Raises:
        UserError: the width does not divide into heads.
    """
    _require_division("n_embd", n_embd, "n_head", n_head)
    return GPT2Config(n_layer=n_layer, n_head=n_head, n_embd=n_embd, initializer_range=initializer_range, **more)


def llama(
    *,
    num_hidden_layers: Count,
    num_attention_heads: Count,
    num_key_value_heads: Count,
    hidden_size: Count,
    intermediate_size: Count,
    tie_word_embeddings: bool = False,
    **more: Any,
) -> PretrainedConfig:
    """Llama (Touvron et al. 2023).

    Args:
        more: of the tokenizer and the block.

    Raises:
        UserError: the width does not divide into heads, or the heads into groups.
    """
    _require_division("hidden_size", hidden_size, "num_attention_heads", num_attention_heads)
    _require_division("num_attention_heads", num_attention_heads, "num_key_value_heads", num_key_value_heads)
    return LlamaConfig(
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        hidden_size=hidden_size,
        num_key_value_heads=num_key_value_heads,
        intermediate_size=intermediate_size,
        tie_word_embeddings=tie_word_embeddings,
        **more,
    )


def _require_division(whole: str, size: int, part: str, count: int) -> None:
    if size % count:
        raise UserError(f"model.random.{whole}={size} is no multiple of model.random.{part}={count}: choose one")

"""Makes a small config of the same architecture: it keeps what the layers do and shrinks their sizes.

transformers has hundreds of architectures, which name their sizes differently. A name that is missing here costs nothing
but time: the caller then tries the model itself.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from transformers import PretrainedConfig

WIDTH, HEADS, HEAD, INNER, EXPERTS, WINDOW, VOCABULARY, POSITIONS = 32, 4, 8, 48, 4, 6, 96, 128
HIDDEN = r"hidden_size|n_embd|d_model|dim_model|embedding_(size|dim)|word_embed_proj_dim|emb_dim|embed_dim|lru_width"
KV_HEADS = r"num_key_value_heads|num_kv_heads|n_kv_heads|n_head_kv"
LAYERS = r"num_hidden_layers|n_layers?|num_layers|num_blocks|(de|en)coder_layers|num_(de|en)coder_layers"
SHARED = "num_kv_shared_layers"  # so many of the last layers share keys and values
TOKEN = r".*token_(id|index)s?"
INDICES = r".*(layer|block)_(indices|ids|idx)s?"  # of the layers that are of another kind
FACTORS = r"(short|long)_factor"
WINDOWS = r".*sliding_window(_size)?|.*window_size|attention_chunk_size"
SIZES = (  # names of a config's sizes, and the small size
    (HIDDEN, WIDTH),
    (r"mamba_d_ssm", 2 * WIDTH),
    (r"qk_head_dim", 2 * HEAD),
    (r".*intermediate_size.*|.*ffn_dim|.*ffn_hidden_size|n_inner|d_ff|dff|dim_ff", INNER),
    (r"(de|en)coder_attention_heads|num_attention_heads|n_heads?|(linear_)?num_heads|.*_num_attention_heads", HEADS),
    (r"(.*_)?head_dim|kv_channels|d_kv|rotary_dim|attention_head_size|.*head_size", HEAD),
    (r".*_rank|.*lora_dim|.*low_rank_dim|hidden_size_per_layer_input", HEAD),
    (r".*vocab_size.*", VOCABULARY),
    (r"max_(position_embeddings|seq_len|sequence_length|target_positions|source_positions)|n_positions|n_ctx", POSITIONS),
    (WINDOWS, WINDOW),
    (r"(num|n|moe_num|num_local|n_routed|num_routed)_experts|num_local_experts", EXPERTS),
    (r".*experts_per_to.*|moe_topk|moe_top_k|moe_k", 2),
    (r"n_group|topk_group|first_k_dense_replace|.*_shared_experts|mamba_n_groups|n_groups", 1),
    (r".*_(period|interval)|.*_step|.*_pattern", 2),
    (r".*_offset", 1),
    (r"mamba_n_heads|n_mamba_heads|mamba_num_heads", 8),
    (r".*d_head|.*mamba_headdim", HEAD),
    (r".*d_state|ssm_state_size|state_size|conv_dim|time_step_rank|.*dt_rank", HEAD),
    (r".*chunk_size", WINDOW),
)


def shrink(config: PretrainedConfig) -> PretrainedConfig:
    """A copy with each kind of layer once, or twice where there is one kind."""
    small = deepcopy(config)
    layers = _chosen_layers(config)
    for name, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            setattr(small, name, shrink(value))
        elif (shrunk := _shrunk(name, value, config, layers)) is not None:
            setattr(small, name, shrunk)
    if own := config.to_dict().get("per_layer_config"):  # what sets single layers apart from the rest of the config
        sizes = {
            int(layer): {name: _smaller(name, value, config, layers) for name, value in of.items()} for layer, of in own.items()
        }
        small.per_layer_config = {number: sizes[layer] for number, layer in enumerate(layers) if layer in sizes}
    return small


def narrow(config: PretrainedConfig) -> PretrainedConfig:
    """A copy of the same sizes with small windows, so that short documents are longer than they are."""
    narrowed = deepcopy(config)
    for name, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            setattr(narrowed, name, narrow(value))
        elif re.fullmatch(WINDOWS, name) and type(value) is int and value > WINDOW:
            setattr(narrowed, name, WINDOW)
    return narrowed


def _smaller(name: str, value: Any, config: PretrainedConfig, layers: list[int]) -> Any:
    shrunk = _shrunk(name, value, config, layers)
    return value if shrunk is None else shrunk


def _shrunk(name: str, value: Any, config: PretrainedConfig, layers: list[int]) -> Any:
    """The smaller value, None where it stays."""
    if re.fullmatch(TOKEN, name):
        return _known_tokens(value)
    if isinstance(value, dict):
        return {key: _smaller(str(key), part, config, layers) for key, part in value.items()}
    if re.fullmatch(FACTORS, name):
        return value[: HEAD // 2]
    if re.fullmatch(INDICES, name):
        return [1] if isinstance(value, list) else None
    if isinstance(value, list) and len(value) == _layer_count(config) and len(value) > 1:
        return [_smaller(name, value[layer], config, layers) for layer in layers]
    if type(value) is not int:
        return None
    if re.fullmatch(LAYERS, name):
        return len(layers)
    if name == SHARED:
        return len(layers) // 2 if value else 0
    if name == "attention_hidden_size":  # Zamba's is twice as wide
        return WIDTH * max(1, value // config.hidden_size)
    if name == "num_heads" and hasattr(config, "expand"):  # Mamba 2: expand * hidden_size / head_dim
        return config.expand * WIDTH // HEAD
    if re.fullmatch(KV_HEADS, name):
        heads = config.num_attention_heads if hasattr(config, "num_attention_heads") else value
        return 1 if value == 1 else HEADS if value == heads else HEADS // 2
    size = next((size for names, size in SIZES if re.fullmatch(names, name)), None)
    return None if size is None or value <= 0 else min(size, value)


def _known_tokens(value: Any) -> Any:
    if isinstance(value, list):
        return [_known_tokens(token) for token in value]
    return 2 if type(value) is int and value >= VOCABULARY else None


def _layer_count(config: PretrainedConfig) -> int:
    return int(getattr(config, "num_hidden_layers", None) or 0)


def _chosen_layers(config: PretrainedConfig) -> list[int]:
    """One layer of each kind, by what lists with an entry per layer say; the first two at least."""
    count = _layer_count(config)
    lists = [value for value in vars(config).values() if isinstance(value, list) and len(value) == count]
    first: dict[str, int] = {}
    for layer in range(count):
        first.setdefault(str([value[layer] for value in lists]), layer)
    chosen = sorted(first.values()) if len(first) > 1 else list(range(min(2, count)))
    pattern = getattr(config, "block_types", None) or ()
    if len(pattern) > len(chosen):
        return list(range(len(pattern)))
    return chosen * 2 if getattr(config, SHARED, 0) else chosen

"""How many positions a model has, and the block that follows from that."""

from __future__ import annotations

from transformers import PretrainedConfig

MOST_TOKENS = 1024  # of a block that nobody has chosen: models of 131,072 positions have no row of that length to spare


def positions_of(config: PretrainedConfig) -> int | None:
    """How many tokens the model can read; None: it has no limit of its own."""
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)


def block_of(config: PretrainedConfig) -> int:
    """How many tokens the model was trained on at a time, by rfr or as far as its own config says."""
    return getattr(config, "block_size", None) or min(positions_of(config) or MOST_TOKENS, MOST_TOKENS)

"""The policy that a config names, random or pretrained, ready to be trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.control_tokens import control_ids
from rfr.errors import UserError
from rfr.model.load import build_model, build_tokenizer, compile_layers, fused
from rfr.model.positions import positions_of
from rfr.model.recompute import recompute_activations


def random_config(cfg: DictConfig, tokens: int, **special: int) -> PretrainedConfig:
    """Of a random model for a tokenizer with so many tokens."""
    drops = {"attn_pdrop": cfg.model.dropout, "embd_pdrop": cfg.model.dropout, "resid_pdrop": cfg.model.dropout}
    vocabulary = -(-tokens // 64) * 64  # a multiple of 64 is kind to matrix units
    random = instantiate(cfg.model.random)
    return fused(random(vocab_size=vocabulary, max_position_embeddings=cfg.model.block_size, **special, **drops))


def require_fit(cfg: DictConfig, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Raises UserError where a model is smaller than its tokenizer, or than a block.

    Args:
        tokenizer: None: it is made of the corpus later.
    """
    positions = positions_of(config)
    if positions is not None and cfg.model.block_size > positions:
        raise UserError(f"model.block_size={cfg.model.block_size} is larger than the model's {positions} positions")
    if tokenizer is not None and len(tokenizer) > config.vocab_size:
        raise UserError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model knows {config.vocab_size:,}: they do not belong together"
        )


def build_policy(cfg: DictConfig, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """In training mode, with its tokenizer's special tokens.

    Args:
        attention: an implementation with which it is exact.

    Raises:
        UserError: the tokenizer or the block does not fit the model, or it can't do what is asked of it.
    """
    special = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    make_config = partial(random_config, cfg, len(tokenizer), **special)
    new = control_ids(tokenizer)
    if new and Path(cfg.model.weights).is_dir() and control_ids(build_tokenizer(cfg.model.weights, None)) == new:
        new = []
    model = build_model(
        cfg.model.weights, cfg.model.hub_name, make_config, cfg.seed, cfg.model.dropout, dtype, new, attention
    )  # fmt: skip
    model.config.block_size = cfg.model.block_size
    require_fit(cfg, model.config, tokenizer)
    _end_stories_alike(model, tokenizer)
    if cfg.model.activation_checkpointing and not model.supports_gradient_checkpointing:
        raise UserError(f"{type(model).__name__} can't have activation checkpointing: set model.activation_checkpointing=false")
    if cfg.model.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    elif not cfg.model.compile:
        recompute_activations(model)
    if cfg.model.compile:
        compile_layers(model)
    return model.train()  # what is loaded comes in evaluation mode, without dropout and checkpointing, and Lightning leaves it so


def _end_stories_alike(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Stories end with the tokenizer's token; let the model's own configs, which are exported, say so, too."""
    for config, name in ((model.config, "config.json"), (model.generation_config, "generation_config.json")):
        known = getattr(config, "eos_token_id", None)
        if known is not None and tokenizer.eos_token_id not in (known if isinstance(known, list) else [known]):
            end = f"{tokenizer.eos_token_id} ({tokenizer.eos_token})"
            print(f"{name} ends texts with token {known}, the tokenizer with {end}: stories end with the latter", flush=True)
        config.eos_token_id = tokenizer.eos_token_id

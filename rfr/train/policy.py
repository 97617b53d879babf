"""The policy that a recipe names, random or pretrained: checked first, built later."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from rfr.data.control_tokens import control_ids
from rfr.data.pack.packing import BestFit
from rfr.errors import UserError
from rfr.model.load import (
    WeightSource,
    build_model,
    build_tokenizer,
    pretrained_config,
    require_weights,
    require_whole_weights,
    with_fused_gelu,
)
from rfr.model.positions import positions_of
from rfr.model.recompute import recompute_activations
from rfr.objective.training_data import PairwiseObjective
from rfr.train.exactness import exact_attention
from rfr.train.recipe import Recipe
from rfr.train.settings import ModelSettings

SOME_TOKENS = 512  # the size of a vocabulary that is not known yet; the architecture does not depend on it


def require_trainable(recipe: Recipe) -> str:
    """Check the model before a store is read for an hour; needs neither data nor the machine of the run.

    Returns:
        The implementation of attention with which the model is trained exactly.

    Raises:
        UserError: weights are missing or damaged, or the model can't be trained exactly.
    """
    model = recipe.model
    require_weights(model.weights, model.hub_name)
    pretrained = model.weights != "random"
    config = pretrained_config(model.weights, model.hub_name) if pretrained else random_config(recipe, SOME_TOKENS)
    attention = exact_attention(config, recipe.data_dir, remedy=_remedy_for_shared_rows(recipe))
    tokenizer = None if model.tokenizer == "corpus" else build_tokenizer(model.tokenizer, model.hub_name)
    if pretrained:
        require_fit(model, config, tokenizer)
        require_whole_weights(model.weights, model.hub_name, attention)
    return attention


def _remedy_for_shared_rows(recipe: Recipe) -> str | None:
    """The setting that helps where stories can't share a row exactly; None where they share none."""
    if isinstance(recipe.objective, PairwiseObjective):
        return f"objective={recipe.objective.name} compares stories of one row, so take another, such as bc or rwr"
    return "set packing=off" if isinstance(recipe.preprocess.packing, BestFit) else None


def random_config(recipe: Recipe, tokens: int, **special: int) -> PretrainedConfig:
    """The config of a random model for a tokenizer with so many tokens."""
    rate = recipe.model.dropout
    drops = {"attn_pdrop": rate, "embd_pdrop": rate, "resid_pdrop": rate}
    vocabulary = -(-tokens // 64) * 64  # a multiple of 64 is kind to matrix units
    make = recipe.random_config
    return with_fused_gelu(make(vocab_size=vocabulary, max_position_embeddings=recipe.model.block_size, **special, **drops))


def require_fit(model: ModelSettings, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Raises UserError where a model is smaller than its tokenizer, or than a block.

    Args:
        tokenizer: None: it is made of the corpus later.
    """
    positions = positions_of(config)
    if positions is not None and model.block_size > positions:
        raise UserError(f"model.block_size={model.block_size} is larger than the model's {positions} positions")
    if tokenizer is not None and len(tokenizer) > config.vocab_size:
        raise UserError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model knows {config.vocab_size:,}: they do not belong together"
        )


def build_policy(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """The policy in training mode, with its tokenizer's special tokens.

    Args:
        attention: an implementation with which it is exact.

    Raises:
        UserError: the tokenizer or the block does not fit the model, or it can't do what is asked of it.
    """
    settings = recipe.model
    special = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    make_config = partial(random_config, recipe, len(tokenizer), **special)
    new = control_ids(tokenizer)
    if new and Path(settings.weights).is_dir() and control_ids(build_tokenizer(settings.weights, None)) == new:
        new = []
    source = WeightSource(settings.weights, settings.hub_name, make_config)
    model = build_model(source, seed=recipe.seed, dropout=settings.dropout, dtype=dtype, new_tokens=new, attention=attention)
    model.config.block_size = settings.block_size
    require_fit(settings, model.config, tokenizer)
    _end_stories_alike(model, tokenizer)
    if settings.activation_checkpointing and not model.supports_gradient_checkpointing:
        raise UserError(f"{type(model).__name__} can't have activation checkpointing: set model.activation_checkpointing=false")
    if settings.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    elif not settings.compile:
        recompute_activations(model)
    if settings.compile:
        _compile_layers(model)
    return model.train()  # from_pretrained returns an eval() model, and Lightning does not switch it back


def start_policy(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel | None:
    """The policy that a run begins with, in fp32 and evaluation mode, in main memory; None where its weights are random, so that
    it can write nothing."""
    if recipe.model.weights == "random":
        return None
    return build_policy(recipe, tokenizer, torch.float32, require_trainable(recipe)).eval()


def _compile_layers(model: PreTrainedModel) -> None:
    """torch.compile for each layer: small graphs that are alike, so one compilation serves all."""
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.compile()


def _end_stories_alike(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Stories end with the tokenizer's token; the model's own configs, which are exported, must name the same."""
    for config, name in ((model.config, "config.json"), (model.generation_config, "generation_config.json")):
        known = getattr(config, "eos_token_id", None)
        if known is not None and tokenizer.eos_token_id not in (known if isinstance(known, list) else [known]):
            end = f"{tokenizer.eos_token_id} ({tokenizer.eos_token})"
            print(f"{name} ends texts with token {known}, the tokenizer with {end}: stories end with the latter", flush=True)
        config.eos_token_id = tokenizer.eos_token_id

"""Reward models: a policy's body with a scalar score instead of logits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import linear
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rfr.errors import UserError, as_user_error
from rfr.model.attention import NAME as ATTENTION
from rfr.model.experts import pad_experts
from rfr.model.load import build_tokenizer, is_reward_model, refuse_pickles, with_fused_gelu
from rfr.model.load_checks import READING


class ScoreHead(nn.Linear):
    """The score of a hidden state in fp32, in fp32 whatever the parameters are in: in bf16 scores of 1 would be 0.004 apart."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return linear(hidden, self.weight.float())


def reward_model(policy: PreTrainedModel, block: int) -> PreTrainedModel:
    """The policy's body, and in the place of its head a layer that makes one score of a hidden state. Exported, it is a
    `AutoModelForSequenceClassification` that reads its score at a story's last token.

    Args:
        block: the tokens that it sees of a prompt and its story; stored in its config, with a digest of the policy's weights.

    Raises:
        UserError: transformers has no classifier of this architecture.
    """
    config = deepcopy(policy.config)
    config.num_labels, config.pad_token_id, config.block_size = 1, config.eos_token_id, block
    config.started_from = digest_of(policy)
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, attn_implementation=policy.config._attn_implementation)
    except ValueError as error:
        raise UserError(
            f"{type(policy).__name__} can't be made a reward model: transformers knows no classifier of it"
        ) from error
    setattr(model, model.base_model_prefix, policy.base_model)
    torch.manual_seed(0)  # whatever the run's seed is: the weights of several that began alike can be averaged
    model.score = ScoreHead(config.hidden_size, 1, bias=False, dtype=policy.dtype)
    nn.init.normal_(model.score.weight, std=config.initializer_range)
    return model


def digest_of(model: PreTrainedModel) -> str:
    """A short hash of all weights."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def load_reward_model(
    weights: str, attention: Callable[[PretrainedConfig], str] = lambda _: ATTENTION
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Reward model (on the GPU where there is one, in evaluation mode) and tokenizer of what `objective=reward_model` left.

    Raises:
        UserError: there is no reward model in the folder, or it is damaged.
    """
    folder = Path(weights)
    with as_user_error(f"can't load the reward model at {weights}", *READING, remedy="copy the folder again"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False) if (folder / "config.json").is_file() else None
        if config is None or not is_reward_model(config):
            raise UserError(f"no reward model at {weights}: train.py objective=reward_model leaves one in runs/<name>/model")
        refuse_pickles(folder)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=with_fused_gelu(config),
            attn_implementation=attention(config),
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
        )
    pad_experts(model)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval(), build_tokenizer(weights, None)

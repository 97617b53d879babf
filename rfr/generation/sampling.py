"""Samples stories from a policy."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.tokenise import prompt_tokens
from rfr.errors import UserError, as_user_error
from rfr.model.positions import block_of, positions_of
from rfr.ranges import AboveZero, Count, PositiveShare, Seed, Whole

WITHOUT_CONFIG = "set sampling.use_generation_config=false"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw. `top_k` 0 and `top_p` 1 leave the policy as it is.

    Args:
        quantile: the quantile that a conditional policy writes for, 1 being the worst; None: the best.
        use_generation_config: what is not set here is as the model folder's `generation_config.json` has it (penalties,
            suppressed tokens and the like). False: a sample is the policy's own.
    """

    max_new_tokens: Count
    temperature: AboveZero = 1.0
    top_p: PositiveShare = 1.0
    top_k: Whole = 0
    batch_size: Count = 64
    quantile: Count | None = None
    use_generation_config: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"sampling.temperature must be above 0, not {self.temperature}")


@torch.no_grad()
def sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: SequenceOf[str], sampling: Sampling) -> list[str]:
    """One story per prompt, drawn token by token; the global random state is left as it was.

    Raises:
        UserError: a prompt leaves no room for a story, there is no such quantile, or the generation config can't be used.
    """
    conditions = [prompt_tokens(tokenizer, prompt, sampling.quantile) for prompt in prompts]
    block = positions_of(model.config) or block_of(model.config)
    longest = max(map(len, conditions))
    if longest >= block:
        raise UserError(f"the prompt has {longest} tokens, the model's block {block}: shorten the prompt")
    stories: list[str] = []
    refused = as_user_error("the folder's generation_config.json can't be used", ValueError, remedy=WITHOUT_CONFIG)
    with _drawing(model, sampling), refused if sampling.use_generation_config else nullcontext():
        for start in range(0, len(conditions), sampling.batch_size):
            stories += _sample_batch(model, tokenizer, conditions[start : start + sampling.batch_size], sampling, block)
    return stories


def _sample_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, conditions: list[list[int]], sampling: Sampling, block: int
) -> list[str]:
    longest, eos = max(map(len, conditions)), tokenizer.eos_token_id
    padded_BT = torch.tensor([[eos] * (longest - len(c)) + c for c in conditions], device=model.device)
    mask_BT = torch.tensor([[0] * (longest - len(c)) + [1] * len(c) for c in conditions], device=model.device)
    drawn_BT = model.generate(  # type: ignore[operator]
        input_ids=padded_BT,
        attention_mask=mask_BT,
        do_sample=True,
        max_new_tokens=min(sampling.max_new_tokens, block - longest),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        pad_token_id=eos,
        eos_token_id=eos,
    )
    return [story.strip() for story in tokenizer.batch_decode(drawn_BT[:, longest:], skip_special_tokens=True)]


@contextmanager
def _drawing(model: PreTrainedModel, sampling: Sampling) -> Iterator[None]:
    """Evaluation mode and a random state of one's own; nothing is compiled for lengths that grow with every token."""
    was_training, cuda = model.training, [model.device] if model.device.type == "cuda" else []
    of_folder = model.generation_config
    if not sampling.use_generation_config:
        model.generation_config = GenerationConfig()
    model.eval()
    with torch.random.fork_rng(devices=cuda), torch.compiler.set_stance("force_eager"):
        torch.manual_seed(sampling.seed)
        yield
    model.train(was_training)
    model.generation_config = of_folder

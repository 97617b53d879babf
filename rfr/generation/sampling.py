"""Samples stories from a policy: what is asked for, and what is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.tokenise import prompt_tokens
from rfr.errors import UserError
from rfr.generation.generate_method import write_with_generate
from rfr.generation.slot_sampler import Request, SlotSampler, WrittenTokens
from rfr.generation.token_draw import Truncation
from rfr.generation.uniforms import uniforms
from rfr.model.positions import block_of, positions_of
from rfr.ranges import AboveZero, Count, PositiveShare, Seed, Whole

WITH_SLOTS = (GPT2LMHeadModel, LlamaForCausalLM)
BY_LENGTH = ("dynamic", "longrope")  # rotary positions that depend on the longest story beside one's own


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw. `top_k` 0 and `top_p` 1 leave the policy as it is.

    Args:
        slots: stories that are written at once. Another number may round otherwise, and so change a story where two tokens lie
            within rounding of the random number.
        quantile: the quantile that a conditional policy writes for, 1 being the worst; None: the best.
        use_generation_config: what is not set here is as the model folder's `generation_config.json` has it (penalties,
            suppressed tokens and the like). False: a sample is the policy's own.
    """

    max_new_tokens: Count
    temperature: AboveZero = 1.0
    top_p: PositiveShare = 1.0
    top_k: Whole = 0
    slots: Count = 64
    quantile: Count | None = None
    use_generation_config: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"sampling.temperature must be above 0, not {self.temperature}")

    @property
    def truncation(self) -> Truncation:
        return Truncation(self.temperature, self.top_k, self.top_p)


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledStory:
    """A story, its tokens, and how likely they were.

    Args:
        number: of the story, among those on the same prompt.
        ids: the tokens, the end token with them where it was drawn.
        logprobs: of each token under the policy at temperature 1, in nats; fp32.
        drawn_logprobs: of each token in the distribution that it was drawn from; fp32, NaN where a generation config changed it.
        stop: `end`, or `length` where it was cut off.
    """

    prompt: str
    number: int
    text: str
    ids: np.ndarray
    logprobs: np.ndarray
    drawn_logprobs: np.ndarray
    stop: str


def sample(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: SequenceOf[str], sampling: Sampling
) -> list[SampledStory]:
    """One story per prompt, in their order; stories on one prompt are numbered.

    Raises:
        UserError: a prompt leaves no room for a story, there is no such quantile, or the generation config can't be used.
    """
    seen, asked = Counter[str](), []
    for prompt in prompts:
        asked.append((prompt, seen[prompt]))
        seen[prompt] += 1
    few = replace(sampling, slots=max(1, min(sampling.slots, len(asked))))
    stories: dict[int, SampledStory] = dict(stories_as_they_end(model, tokenizer, asked, few))
    return [stories[index] for index in range(len(prompts))]


def stories_as_they_end(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: SequenceOf[tuple[str, int]], sampling: Sampling
) -> Iterator[tuple[int, SampledStory]]:
    """Stories with their place in `asked`, which has prompts and the numbers of the stories on them.

    Of architectures like GPT-2's and Llama's a story depends on the policy, the settings, its prompt and its number alone.
    Others are drawn by transformers' `generate`, batch by batch. The global random state stays as it was.

    Raises:
        UserError: as `sample`.
    """
    block = positions_of(model.config) or block_of(model.config)
    requests = []
    for index, (prompt, number) in enumerate(asked):
        ids = prompt_tokens(tokenizer, prompt, sampling.quantile)
        if len(ids) >= block:
            raise UserError(f"the prompt has {len(ids)} tokens, the model's block {block}: shorten the prompt ({prompt[:60]!r})")
        limit = min(sampling.max_new_tokens, block - len(ids))
        drawn = uniforms(sampling.seed, prompt, number, limit)
        requests.append(Request(index=index, prompt_ids=tuple(ids), limit=limit, uniforms=drawn))
    for written in _written(model, int(tokenizer.eos_token_id), requests, sampling):
        prompt, number = asked[written.index]
        yield written.index, SampledStory(
            prompt=prompt, number=number, text=str(tokenizer.decode(written.ids, skip_special_tokens=True)).strip(),
            ids=written.ids, logprobs=written.logprobs, drawn_logprobs=written.drawn_logprobs,
            stop="end" if written.ended else "length",
        )  # fmt: skip


def has_slots(model: PreTrainedModel) -> bool:
    """Whether the slots write what the architecture is; the others are left to transformers' `generate`."""
    rotary = getattr(model.config, "rope_parameters", None) or {}
    return isinstance(model, WITH_SLOTS) and rotary.get("rope_type") not in BY_LENGTH


def _written(
    model: PreTrainedModel, eos: int, requests: SequenceOf[Request], sampling: Sampling
) -> Iterator[WrittenTokens]:  # fmt: skip
    with _evaluating(model):
        if has_slots(model) and not sampling.use_generation_config:
            yield from SlotSampler(model, eos, sampling.truncation, sampling.slots)(requests)
        else:
            own_config = sampling.use_generation_config
            yield from write_with_generate(model, eos, requests, sampling.truncation, sampling.slots, sampling.seed, own_config)


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode; nothing is compiled for lengths that grow with every token."""
    was_training = model.training
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        model.train(was_training)

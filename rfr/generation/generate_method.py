"""Writes with transformers' `generate`: for architectures that the slots do not know, and for generation configs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager, nullcontext
from functools import cache

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from rfr.errors import as_user_error
from rfr.generation.slot_sampler import Request, WrittenTokens
from rfr.generation.token_draw import Truncation, truncated

WITHOUT_CONFIG = "set sampling.use_generation_config=false"


def write_with_generate(
    model: PreTrainedModel, eos: int, asked: SequenceOf[Request], truncation: Truncation, batch: int, seed: int, own_config: bool
) -> Iterator[WrittenTokens]:
    """Batches of prompts of like length. Log-probabilities are found by scoring the stories again.

    Args:
        own_config: what the truncation leaves open is as the model's generation config has it.

    Raises:
        UserError: the generation config can't be used.
    """
    if not own_config:
        _say_once(model.config.model_type)
    in_order = sorted(asked, key=lambda request: (len(request.prompt_ids), request.index))
    refused = as_user_error("the folder's generation_config.json can't be used", ValueError, remedy=WITHOUT_CONFIG)
    for begin in range(0, len(in_order), batch):
        requests = in_order[begin : begin + batch]
        with _drawing(model, seed + begin, own_config), refused if own_config else nullcontext():
            stories = _generated(model, eos, requests, truncation)
        for request, ids in zip(requests, stories, strict=True):
            logprobs, drawn = _scored(model, request, ids, truncation)
            yield WrittenTokens(
                index=request.index, ids=ids, logprobs=logprobs, drawn_logprobs=drawn * np.nan if own_config else drawn,
                ended=bool(len(ids) and ids[-1] == eos),
            )  # fmt: skip


@cache
def _say_once(model_type: str) -> None:
    told = f"model_type={model_type} is sampled by transformers' generate, which is slower: a story depends on its batch"
    print(told, file=sys.stderr, flush=True)


@torch.no_grad()
def _generated(model: PreTrainedModel, eos: int, requests: SequenceOf[Request], truncation: Truncation) -> list[np.ndarray]:
    """Each story's tokens up to its own end."""
    longest = max(len(request.prompt_ids) for request in requests)
    padding = [longest - len(request.prompt_ids) for request in requests]
    ids_BT = torch.tensor([[eos] * left + list(r.prompt_ids) for left, r in zip(padding, requests, strict=True)])
    mask_BT = torch.tensor([[0] * left + [1] * (longest - left) for left in padding])
    drawn_BT = model.generate(  # type: ignore[operator]
        input_ids=ids_BT.to(model.device),
        attention_mask=mask_BT.to(model.device),
        do_sample=True,
        max_new_tokens=max(request.limit for request in requests),
        temperature=truncation.temperature,
        top_p=truncation.top_p,
        top_k=truncation.top_k,
        pad_token_id=eos,
        eos_token_id=eos,
    )[:, longest:]
    stories = []
    for request, row in zip(requests, drawn_BT.cpu().numpy().astype(np.int32), strict=True):
        ends = np.flatnonzero(row == eos)
        stories.append(row[: min(ends[0] + 1 if len(ends) else len(row), request.limit)])
    return stories


@torch.no_grad()
def _scored(
    model: PreTrainedModel, request: Request, ids: np.ndarray, truncation: Truncation
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Log-probabilities of a story's tokens under the policy, and in the distribution that the truncation leaves."""
    whole = torch.tensor([[*request.prompt_ids, *ids.tolist()]], device=model.device)
    logits_TV = model(input_ids=whole, use_cache=False).logits[0, len(request.prompt_ids) - 1 : -1].float()
    chosen_T1 = whole[0, len(request.prompt_ids) :, None]
    probabilities_TV = truncated(logits_TV, truncation)
    drawn = probabilities_TV.gather(1, chosen_T1)[:, 0].log() - probabilities_TV.sum(-1, dtype=torch.float64).log().float()
    return (logits_TV.log_softmax(-1).gather(1, chosen_T1)[:, 0]).cpu().numpy(), drawn.cpu().numpy()


@contextmanager
def _drawing(model: PreTrainedModel, seed: int, own_config: bool) -> Iterator[None]:
    """A random state of one's own, and no generation config but the model's own where it is asked for."""
    cuda, of_folder = [model.device] if model.device.type == "cuda" else [], model.generation_config
    if not own_config:
        model.generation_config = GenerationConfig()
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            yield
    finally:
        model.generation_config = of_folder

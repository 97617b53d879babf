"""Writes the likeliest tokens with the slots, so that the probe of an architecture can hold them against training."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
import torch
from transformers import PreTrainedModel

from rfr.generation.sampling import has_slots
from rfr.generation.slot_sampler import Request, SlotSampler
from rfr.generation.token_draw import Truncation

SLOTS = 2  # fewer than the probe has prompts, so that one of them changes hands
GREEDY = Truncation(temperature=1.0, top_k=1, top_p=1.0)


def write_greedily(
    model: PreTrainedModel, prompts: SequenceOf[torch.Tensor], tokens: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """So many tokens after each prompt, int64, and their log-probabilities, fp32; nothing where the architecture has no slots."""
    if not has_slots(model):
        return []
    requests = [
        Request(index=index, prompt_ids=tuple(prompt.tolist()), limit=tokens, uniforms=np.zeros(tokens))
        for index, prompt in enumerate(prompts)
    ]
    no_token = -1  # none ends a story
    written = sorted(SlotSampler(model, no_token, GREEDY, SLOTS, lanes=1)(requests), key=lambda story: story.index)
    return [(torch.from_numpy(story.ids).long(), torch.from_numpy(story.logprobs)) for story in written]

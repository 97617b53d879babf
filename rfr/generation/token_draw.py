"""Draws tokens from logits by inverse CDF: exactly from the distribution that temperature, top-k and top-p leave."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import pad

from rfr.generation.kernels import kernels_for

BLOCK = 64  # tokens whose probabilities are added up first
FIRST_LARGEST, GROWTH = 256, 4  # tokens that are sorted for top-p at first, and how many times more where these are too few


class Truncation(NamedTuple):
    """What is left of a distribution. `top_k` 0 and `top_p` 1 leave all of it.

    As in transformers: of the logits over the temperature the `top_k` largest, and of these the fewest whose share reaches
    `top_p` (Holtzman et al. 2020). Of equal ones the first are kept.
    """

    temperature: float
    top_k: int
    top_p: float


class Tokens(NamedTuple):
    """A token per row; and its log-probability at temperature 1, and in the distribution it was drawn from. Shapes (S,)."""

    ids_S: torch.Tensor
    logprobs_S: torch.Tensor
    drawn_logprobs_S: torch.Tensor


def draw_tokens(logits_SV: torch.Tensor, uniforms_S: torch.Tensor, truncation: Truncation) -> Tokens:
    """In the order of ids, the first token at which the sum of the probabilities passes the random number.

    A row's token depends on its logits and its random number alone. Probabilities are fp32, whatever the logits are.

    Args:
        uniforms_S: float64 in [0, 1).
    """
    if (kernels := kernels_for(logits_SV.device)) is not None:
        return Tokens(*kernels.draw(logits_SV.contiguous(), uniforms_S, *truncation))
    return draw_with_torch(logits_SV, uniforms_S, truncation)


def draw_with_torch(logits_SV: torch.Tensor, uniforms_S: torch.Tensor, truncation: Truncation) -> Tokens:
    """The same where there is no kernel."""
    logits_SV = logits_SV.float()
    probabilities_SV = truncated(logits_SV, truncation)
    ids_S, total_S = _inverse_cdf(probabilities_SV, uniforms_S)
    chosen_S1 = ids_S[:, None]
    drawn_S = probabilities_SV.gather(1, chosen_S1)[:, 0].log() - total_S.log().float()
    return Tokens(ids_S, logits_SV.gather(1, chosen_S1)[:, 0] - logits_SV.logsumexp(-1), drawn_S)


def truncated(logits_SV: torch.Tensor, truncation: Truncation) -> torch.Tensor:
    """Probabilities times a row's factor, 0 where a token is left out; fp32 of shape (S, V)."""
    scaled_SV = logits_SV.float() / truncation.temperature
    probabilities_SV = (scaled_SV - scaled_SV.amax(-1, keepdim=True)).exp_()
    if 0 < truncation.top_k < scaled_SV.shape[1]:
        least_S1 = probabilities_SV.topk(truncation.top_k, -1).values[:, -1:]
        _leave_out(probabilities_SV, least_S1, torch.full_like(least_S1, truncation.top_k, dtype=torch.int64))
    if truncation.top_p < 1:
        _leave_out(probabilities_SV, *_nucleus(probabilities_SV, truncation.top_p))
    return probabilities_SV


def _nucleus(probabilities_SV: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The least probability that is kept and how many are, each (S, 1). No more are sorted than it takes."""
    vocabulary, count = probabilities_SV.shape[1], min(FIRST_LARGEST, probabilities_SV.shape[1])
    mass_S1 = top_p * probabilities_SV.sum(-1, dtype=torch.float64, keepdim=True)
    while True:
        values_SK = probabilities_SV.topk(count, -1).values
        ends_SK = values_SK.double().cumsum(-1)
        if count == vocabulary or bool((ends_SK[:, -1:] >= mass_S1).all()):
            break
        count = min(GROWTH * count, vocabulary)
    kept_S1 = (ends_SK - values_SK < mass_S1).sum(-1, keepdim=True)
    return values_SK.gather(1, kept_S1 - 1), kept_S1


def _leave_out(probabilities_SV: torch.Tensor, least_S1: torch.Tensor, count_S1: torch.Tensor) -> None:
    """Put 0 in the place of all but the largest `count_S1`, in place."""
    equal_SV = probabilities_SV == least_S1
    ties_S1 = count_S1 - (probabilities_SV > least_S1).sum(-1, keepdim=True)
    too_many_SV = equal_SV & (equal_SV.cumsum(-1) > ties_S1)
    probabilities_SV.masked_fill_((probabilities_SV < least_S1) | too_many_SV, 0.0)


def _inverse_cdf(probabilities_SV: torch.Tensor, uniforms_S: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and the sums of all probabilities. First the block in which the sum passes the random number, then the token in it."""
    blocks = pad(probabilities_SV, (0, -probabilities_SV.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    ends_SB = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    total_S, rows = ends_SB[:, -1], torch.arange(len(ends_SB), device=ends_SB.device)
    target_S1 = (uniforms_S * total_S)[:, None]
    block_S = (ends_SB <= target_S1).sum(-1).clamp(max=ends_SB.shape[1] - 1)
    chosen = blocks[rows, block_S].double()
    before_S1 = ends_SB[rows, block_S][:, None] - chosen.sum(-1, keepdim=True)
    within_S = (before_S1 + chosen.cumsum(-1) <= target_S1).sum(-1)
    last_S = BLOCK - 1 - (chosen.flip(-1) > 0).int().argmax(-1)  # rounding never leads to a token that can't be drawn
    return block_S * BLOCK + torch.minimum(within_S, last_S), total_S

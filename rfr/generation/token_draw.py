"""Draws tokens from logits by inverse CDF: exactly from the distribution that temperature, top-k and top-p leave."""

from __future__ import annotations

from typing import NamedTuple

import torch

BLOCK = 64  # tokens whose probabilities are added up first
FIRST_LARGEST, GROWTH = 64, 4  # tokens that are sorted for top-p at first, and how many times more where these are too few


class Truncation(NamedTuple):
    """What is left of a distribution. `top_k` 0 and `top_p` 1 leave all of it.

    As in transformers: of the logits over the temperature the `top_k` largest, and of these the fewest whose share reaches
    `top_p` (Holtzman et al. 2020).
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
    """A row's token depends on its logits and its random number alone.

    Args:
        logits_SV: of any precision; probabilities are fp32.
        uniforms_S: float64 in [0, 1).
    """
    logits_SV = logits_SV.float()
    scaled_SV = logits_SV if truncation.temperature == 1 else logits_SV / truncation.temperature
    log_total_S = scaled_SV.logsumexp(-1)
    if truncation.top_k or truncation.top_p < 1:
        ids_S, drawn_logprobs_S = _from_largest(scaled_SV, log_total_S, uniforms_S, truncation)
    else:
        ids_S = _from_all((scaled_SV - log_total_S[:, None]).exp_(), uniforms_S)
        drawn_logprobs_S = scaled_SV.gather(1, ids_S[:, None])[:, 0] - log_total_S
    log_total_of_policy_S = log_total_S if truncation.temperature == 1 else logits_SV.logsumexp(-1)
    return Tokens(ids_S, logits_SV.gather(1, ids_S[:, None])[:, 0] - log_total_of_policy_S, drawn_logprobs_S)


def _from_all(probabilities_SV: torch.Tensor, uniforms_S: torch.Tensor) -> torch.Tensor:
    """In the order of ids: the block in which the cumulative sum passes the random number, then the token in the block."""
    padded_SV = torch.nn.functional.pad(probabilities_SV, (0, -probabilities_SV.shape[1] % BLOCK))
    blocks = padded_SV.unflatten(1, (-1, BLOCK))
    ends_SB = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target_S1 = (uniforms_S * ends_SB[:, -1])[:, None]
    block_S = (ends_SB <= target_S1).sum(-1).clamp(max=ends_SB.shape[1] - 1)
    rows = torch.arange(len(block_S), device=block_S.device)
    chosen = blocks[rows, block_S].double()
    before_S1 = ends_SB[rows, block_S][:, None] - chosen.sum(-1, keepdim=True)
    within_S = (before_S1 + chosen.cumsum(-1) <= target_S1).sum(-1)
    last_S = BLOCK - 1 - (chosen.flip(-1) > 0).int().argmax(-1)  # rounding never leads to a token that can't be drawn
    return block_S * BLOCK + torch.minimum(within_S, last_S)


def _from_largest(
    scaled_SV: torch.Tensor, log_total_S: torch.Tensor, uniforms_S: torch.Tensor, truncation: Truncation
) -> tuple[torch.Tensor, torch.Tensor]:
    """From the largest probabilities down. For top-p no more tokens are sorted than it takes: few are enough in most rows."""
    vocabulary = scaled_SV.shape[1]
    count = min(truncation.top_k or FIRST_LARGEST, vocabulary)
    ids_S = torch.empty(len(scaled_SV), dtype=torch.int64, device=scaled_SV.device)
    logprobs_S = torch.empty_like(log_total_S)
    open_R = torch.arange(len(scaled_SV), device=scaled_SV.device)
    while len(open_R):
        everything = len(open_R) == len(scaled_SV)
        values_RK, largest_RK = (scaled_SV if everything else scaled_SV[open_R]).topk(count, -1)
        log_total_R = values_RK.logsumexp(-1) if truncation.top_k else log_total_S[open_R]
        logprobs_RK = values_RK - log_total_R[:, None]
        probabilities_RK = logprobs_RK.double().exp()
        ends_RK = probabilities_RK.cumsum(-1)
        enough_R = (ends_RK[:, -1] >= truncation.top_p) | bool(truncation.top_k or count == vocabulary)
        kept_R = (ends_RK - probabilities_RK < truncation.top_p).sum(-1)
        mass_R = ends_RK.gather(1, kept_R[:, None] - 1)[:, 0]
        place_R = (ends_RK <= (uniforms_S[open_R] * mass_R)[:, None]).sum(-1)
        place_R1 = torch.minimum(place_R, kept_R - 1)[:, None]
        done = open_R[enough_R]
        ids_S[done] = largest_RK.gather(1, place_R1)[enough_R, 0]
        logprobs_S[done] = (logprobs_RK.gather(1, place_R1)[:, 0] - mass_R.log().float())[enough_R]
        open_R, count = open_R[~enough_R], min(GROWTH * count, vocabulary)
    return ids_S, logprobs_S

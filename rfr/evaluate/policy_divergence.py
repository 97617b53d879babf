"""How far a policy is from the one it began with: the Kullback-Leibler divergence along stories that it wrote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from rfr.data.batches import WeightedRows, batches_by_tokens
from rfr.data.pack.rows import PackedRows
from rfr.model.attention import hidden_states
from rfr.model.embedding import output_layer
from rfr.records import IGNORE

TOKENS = 4096  # that are read at once
CHUNK_ROWS = 512  # tokens whose distributions are held at once
DISTRIBUTIONS = 5  # of each of these tokens: both policies', the probabilities, and two on the way to a figure


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Four figures of each story, in nats, each summed along the story; float64 of shape (stories,).

    Args:
        policy_logprob, start_logprob: log-probability of the story.
        kl: of the next token's distribution from the start policy's. Along stories drawn from the policy its mean is
            KL(policy || start), as is that of policy_logprob - start_logprob (k1 in Schulman 2020), whose variance is higher.
        entropy: of the next token's distribution.
    """

    policy_logprob: np.ndarray
    start_logprob: np.ndarray
    kl: np.ndarray
    entropy: np.ndarray


@torch.no_grad()
def divergence(policy: PreTrainedModel, start: PreTrainedModel, rows: PackedRows) -> Divergence:
    """Measure stories, each of which stands in a row of its own. The parameters should be fp32; the training path reads both.

    Args:
        start: on the device of the policy.
    """
    figures = np.zeros((4, len(rows.stories)))
    source = WeightedRows(rows)
    for together in batches_by_tokens(rows.row_lengths, TOKENS):
        batch = source.batch(together, together).to(policy.device)
        is_target_BT = batch.labels_BT != IGNORE
        labels_N, row_N = batch.labels_BT[is_target_BT], torch.nonzero(is_target_BT)[:, 0]
        hidden = [hidden_states(model, batch)[is_target_BT] for model in (policy, start)]
        chunks = zip(*(states.split(CHUNK_ROWS) for states in (*hidden, labels_N)), strict=True)
        of_tokens = [_of_tokens(policy, start, *chunk) for chunk in chunks]
        story_N = rows.pieces.story[together][row_N.cpu().numpy()]
        for figure, values_N in zip(figures, torch.cat(of_tokens, dim=1).double().cpu().numpy(), strict=True):
            np.add.at(figure, story_N, values_N)
    return Divergence(**dict(zip(("policy_logprob", "start_logprob", "kl", "entropy"), figures, strict=True)))


def _of_tokens(
    policy: PreTrainedModel,
    start: PreTrainedModel,
    hidden_CD: torch.Tensor,
    start_hidden_CD: torch.Tensor,
    labels_C: torch.Tensor,
) -> torch.Tensor:
    """Log-probabilities of the labels under both, KL and entropy; fp32 of shape (4, C)."""
    logprobs_CV, start_CV = (
        output_layer(model).final_logits(hidden).log_softmax(-1)
        for model, hidden in ((policy, hidden_CD), (start, start_hidden_CD))
    )
    chosen = [values_CV.gather(1, labels_C[:, None])[:, 0] for values_CV in (logprobs_CV, start_CV)]
    probabilities_CV = logprobs_CV.exp()
    kl_C = (probabilities_CV * (logprobs_CV - start_CV)).sum(-1)
    entropy_C = -(probabilities_CV * logprobs_CV.clamp(min=torch.finfo(torch.float32).min)).sum(-1)
    return torch.stack([*chosen, kl_C, entropy_C])

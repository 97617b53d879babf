"""Behaviour cloning and reward-weighted RL: one loss. Cloning is the case in which every weight is 1."""

from __future__ import annotations

import torch

from rfr.objective.logprobs import token_nll
from rfr.records import Batch


class WeightedNLL:
    """loss = sum over targets of w * nll / target tokens of the global optimizer batch.

    With w = exp(r / beta) the gradient is that of reward-weighted regression; with w = 1 of maximum likelihood.
    """

    def __call__(self, logits_BTV: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The micro-batch's share of the loss (the shares of an optimizer batch add up to it), and plain sums to log."""
        nll, is_target_BT = token_nll(logits_BTV, batch.labels_BT)
        loss = (batch.weights_BT[is_target_BT] * nll).sum() / batch.target_tokens
        return loss, {"nll_sum": nll.detach().sum(), "target_tokens": is_target_BT.sum()}

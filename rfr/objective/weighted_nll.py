"""Behaviour cloning and reward-weighted RL: one loss. Cloning is the case in which every weight is 1."""

from __future__ import annotations

from typing import Protocol

import torch

from rfr.records import IGNORE, Batch


class Head(Protocol):
    """From hidden states, labels and weights, (N, D), (N,) and (N,), to the sum of w * -log p, and each -log p."""

    def __call__(
        self, hidden: torch.Tensor, labels_N: torch.Tensor, weights_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class WeightedNLL:
    """loss = sum over targets of w * nll / target tokens of the global optimizer batch.

    With w = exp(r / beta) the gradient is that of reward-weighted regression; with w = 1 of maximum likelihood.
    """

    def __call__(self, hidden_BTD: torch.Tensor, head: Head, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The micro-batch's share of the loss (the shares of an optimizer batch add up to it), and plain sums to log."""
        is_target_BT = batch.labels_BT != IGNORE  # the head is the largest layer: nothing else goes through it
        weighted, nll_N = head(hidden_BTD[is_target_BT], batch.labels_BT[is_target_BT], batch.weights_BT[is_target_BT])
        return weighted / batch.target_tokens, {"nll_sum": nll_N.sum(), "target_tokens": is_target_BT.sum()}

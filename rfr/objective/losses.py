"""Behaviour cloning and reward-weighted RL: one loss. Cloning is the case in which every weight is 1."""

from __future__ import annotations

from typing import ClassVar

import torch

from rfr.objective.base import Head
from rfr.records import IGNORE, Batch


class WeightedNLL:
    """loss = sum over targets of w * nll / target tokens of the global optimizer batch.

    With w = exp(r / beta) the gradient is that of reward-weighted regression; with w = 1 of maximum likelihood.
    """

    watched: ClassVar[str] = "nll_per_token"
    writes: ClassVar[bool] = True
    compares_with_start: ClassVar[bool] = False

    def __call__(self, hidden_BTD: torch.Tensor, head: Head, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        is_target_BT = batch.labels_BT != IGNORE  # the head is the largest layer: nothing else goes through it
        weighted, nll_N = head(hidden_BTD[is_target_BT], batch.labels_BT[is_target_BT], batch.weights_BT[is_target_BT])
        return weighted / batch.target_tokens, {"nll_per_token": nll_N.sum() / batch.target_tokens}

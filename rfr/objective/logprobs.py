"""Negative log-likelihood per token, in fp32 whatever the model computes in."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from rfr.records import IGNORE


def token_nll(logits_BTV: torch.Tensor, labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p of every target token, fp32 of shape (targets,), and the (B, T) mask that says where they were.

    Only the targets' logits are turned to fp32: a 50,257-wide row of them is the largest tensor of a step.
    """
    is_target_BT = labels_BT != IGNORE
    return cross_entropy(logits_BTV[is_target_BT].float(), labels_BT[is_target_BT], reduction="none"), is_target_BT

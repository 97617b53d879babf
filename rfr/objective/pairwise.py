"""Learning from which of two stories did better: a policy directly (DPO), or a reward model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.nn.functional import logsigmoid

from rfr.objective.base import Head
from rfr.records import IGNORE, PairBatch


class DPO:
    """loss = mean over pairs of -log sigmoid(beta (log-ratio of the chosen - log-ratio of the rejected)).

    The log-ratio of a story is log p(story) - log p_reference(story); the reference is the policy that training begins with
    (Rafailov et al. 2023).

    Raises:
        ValueError: beta <= 0.
    """

    watched: ClassVar[str] = "pair_loss"
    writes: ClassVar[bool] = True
    compares_with_start: ClassVar[bool] = True

    def __init__(self, beta: float = 0.1) -> None:
        if not beta > 0:
            raise ValueError(f"objective.loss.beta must be above 0, not {beta}")
        self._beta = beta

    def __call__(self, hidden_BTD: torch.Tensor, head: Head, batch: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        is_target_BT = batch.labels_BT != IGNORE
        hidden_ND, labels_N = hidden_BTD[is_target_BT], batch.labels_BT[is_target_BT]
        document_N = batch.documents_BT[is_target_BT] - 1
        with torch.no_grad():
            _, nll_N = head(hidden_ND, labels_N, torch.zeros_like(labels_N, dtype=torch.float32))
            logratio_D = -_sums(nll_N, document_N, len(batch.ends_D)) - batch.reference_D
            margin_P = self._beta * _differences(logratio_D, batch)
        loss, shares = _of_margins(margin_P, batch)
        shares["nll_per_token"] = nll_N.sum() / batch.target_tokens
        if not torch.is_grad_enabled():
            return loss, shares
        # d loss / d nll is the same for all tokens of a story: with it as the weights, the head's weighted sum has this loss'
        # gradient, and need not keep logits.
        slope_P = self._beta * torch.sigmoid(-margin_P)
        weight_D = torch.zeros_like(logratio_D).index_put_((batch.chosen_P,), slope_P, accumulate=True)
        weight_D.index_put_((batch.rejected_P,), -slope_P, accumulate=True)
        weighted, _ = head(hidden_ND, labels_N, weight_D[document_N])
        return loss + (weighted - weighted.detach()) / batch.pairs, shares


class BradleyTerry:
    """loss = mean over pairs of -log sigmoid(s(chosen) - s(rejected)), s being read where a story ends (Bradley & Terry 1952;
    Stiennon et al. 2020)."""

    watched: ClassVar[str] = "pair_loss"
    writes: ClassVar[bool] = False
    compares_with_start: ClassVar[bool] = False

    def __call__(self, hidden_BTD: torch.Tensor, head: Any, batch: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return _of_margins(_differences(scores(hidden_BTD, head, batch.ends_D), batch), batch)


def scores(hidden_BTD: torch.Tensor, head: Any, ends_D: torch.Tensor) -> torch.Tensor:
    """Of each document, fp32 of shape (D,); in the head's own precision, since in bf16 scores of 1 would be 0.004 apart."""
    with torch.autocast(hidden_BTD.device.type, enabled=False):
        return head(hidden_BTD.flatten(0, 1)[ends_D].to(head.weight.dtype))[:, 0].float()


def _differences(value_D: torch.Tensor, batch: PairBatch) -> torch.Tensor:
    return value_D[batch.chosen_P] - value_D[batch.rejected_P]


def _of_margins(margin_P: torch.Tensor, batch: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The share of the loss, and of what is to be logged; a margin of 0 is half right."""
    loss, margins = -logsigmoid(margin_P).sum() / batch.pairs, margin_P.detach()
    right = ((1 + torch.sign(margins)) / 2).sum() / batch.pairs
    return loss, {"pair_loss": loss.detach(), "pair_accuracy": right, "margin": margins.sum() / batch.pairs}


def _sums(value_N: torch.Tensor, document_N: torch.Tensor, documents: int) -> torch.Tensor:
    """Of each document, whose tokens follow one another; always in the same order, on GPUs too."""
    return torch.segment_reduce(value_N, "sum", lengths=torch.bincount(document_N, minlength=documents), initial=0.0)

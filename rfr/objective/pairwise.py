"""Learning from which of two stories did better: a policy directly (DPO), or a reward model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.nn.functional import logsigmoid

from rfr.objective.base import Head
from rfr.ranges import AboveZero
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

    def __init__(self, beta: AboveZero = 0.1) -> None:
        if not beta > 0:
            raise ValueError(f"objective.loss.beta must be above 0, not {beta}")
        self._beta = beta

    def __call__(self, hidden_BTD: torch.Tensor, head: Head, batch: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        is_target_BT = batch.labels_BT != IGNORE
        hidden_ND, labels_N = hidden_BTD[is_target_BT], batch.labels_BT[is_target_BT]
        story_N = batch.documents_BT[is_target_BT] - 1
        with torch.no_grad():
            _, nll_N = head(hidden_ND, labels_N, torch.zeros_like(labels_N, dtype=torch.float32))
            logratio_S = -_sums(nll_N, story_N, len(batch.ends_S)) - batch.reference_S
            margin_P = self._beta * _differences(logratio_S, batch)
        loss, shares = _of_margins(margin_P, batch)
        shares["pair_nll_per_token"] = nll_N.sum() / batch.target_tokens
        if not torch.is_grad_enabled():
            return loss, shares
        # d loss / d nll is the same for all tokens of a story: with it as the weights, the head's weighted sum has this loss'
        # gradient, and need not keep logits. It takes weights of about 1, since it rounds its gradient before any loss scale.
        slope_P = torch.sigmoid(-margin_P)
        weight_S = torch.zeros_like(logratio_S).index_put_((batch.chosen_P,), slope_P, accumulate=True)
        weight_S.index_put_((batch.rejected_P,), -slope_P, accumulate=True)
        scale = weight_S.abs().max().clamp(min=1e-30)
        weighted, _ = head(hidden_ND, labels_N, (weight_S / scale)[story_N])
        return loss + (weighted - weighted.detach()) * scale * self._beta / batch.pairs, shares


class BradleyTerry:
    """loss = mean over pairs of -log sigmoid(s(chosen) - s(rejected)), s being read where a story ends (Bradley & Terry 1952;
    Stiennon et al. 2020)."""

    watched: ClassVar[str] = "pair_loss"
    writes: ClassVar[bool] = False
    compares_with_start: ClassVar[bool] = False

    def __call__(self, hidden_BTD: torch.Tensor, head: Any, batch: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return _of_margins(_differences(read_scores(hidden_BTD, head, batch.ends_S), batch), batch)


def read_scores(hidden_BTD: torch.Tensor, head: Any, ends_S: torch.Tensor) -> torch.Tensor:
    """Of each story, fp32 of shape (S,)."""
    with torch.autocast(hidden_BTD.device.type, enabled=False):
        return head(hidden_BTD.flatten(0, 1)[ends_S].float())[:, 0]


def _differences(value_S: torch.Tensor, batch: PairBatch) -> torch.Tensor:
    return value_S[batch.chosen_P] - value_S[batch.rejected_P]


def _of_margins(margin_P: torch.Tensor, batch: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The share of the loss, and of what is to be logged; a margin of 0 is half right."""
    loss, margins = -logsigmoid(margin_P).sum() / batch.pairs, margin_P.detach()
    right = ((1 + torch.sign(margins)) / 2).sum() / batch.pairs
    return loss, {"pair_loss": loss.detach(), "pair_accuracy": right, "margin": margins.sum() / batch.pairs}


def _sums(value_N: torch.Tensor, story_N: torch.Tensor, stories: int) -> torch.Tensor:
    """Of each story, whose tokens follow one another; always in the same order, on GPUs too."""
    return torch.segment_reduce(value_N, "sum", lengths=torch.bincount(story_N, minlength=stories), initial=0.0)

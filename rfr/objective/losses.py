"""The losses that the learner calls: weighted NLL (cloning is weight 1), policy gradient, DPO and Bradley-Terry."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch.nn.functional import logsigmoid

from rfr.errors import UserError
from rfr.ranges import AboveZero
from rfr.records import IGNORE, AdvantageBatch, Batch, PreferenceBatch

LossAndFigures = tuple[torch.Tensor, dict[str, torch.Tensor]]


class Loss(Protocol):
    """Maps hidden states (B, T, D), the model's output layer and a batch to the micro-batch's share of the loss and of the logged
    figures. The shares of an optimizer batch, or of a validation, add up to the whole."""

    monitor: ClassVar[str]  # the logged figure by which models are compared: the lower in validation, the better
    is_policy: ClassVar[bool]  # the model writes stories; else it is a reward model and scores them
    needs_reference: ClassVar[bool]  # batches must hold the stories' log-probabilities before training

    def __call__(self, hidden_BTD: torch.Tensor, head: Any, batch: Any) -> LossAndFigures: ...


class PolicyHead(Protocol):
    """A policy's output layer. It maps hidden states (N, D), labels (N,) and weights (N,) to the sum of w * -log p and to each
    -log p; hidden states alone it maps to logits, as any layer does."""

    def __call__(self, hidden: torch.Tensor, labels_N: torch.Tensor, weights_N: torch.Tensor) -> Any: ...


class WeightedNLL:
    """loss = sum over targets of w * nll / target tokens of the global optimizer batch.

    With w = exp(r / beta) the gradient is that of reward-weighted regression; with w = 1, that of maximum likelihood: cloning.
    """

    monitor: ClassVar[str] = "nll_per_token"
    is_policy: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def __call__(self, hidden_BTD: torch.Tensor, head: PolicyHead, batch: Batch) -> LossAndFigures:
        is_target_BT = batch.labels_BT != IGNORE  # the head is the largest layer: only targets go through it
        weighted, nll_N = head(hidden_BTD[is_target_BT], batch.labels_BT[is_target_BT], batch.weights_BT[is_target_BT])
        return weighted / batch.target_tokens, {"nll_per_token": nll_N.sum() / batch.target_tokens}


class DPO:
    """loss = mean over pairs of -log sigmoid(beta (log-ratio of the chosen - log-ratio of the rejected)).

    The log-ratio of a story is log p(story) - log p_reference(story); the reference is the policy that training begins with
    (Rafailov et al. 2023).

    Raises:
        UserError: beta <= 0.
    """

    monitor: ClassVar[str] = "pair_loss"
    is_policy: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    def __init__(self, beta: AboveZero = 0.1) -> None:
        if not beta > 0:
            raise UserError(f"objective.loss.beta must be above 0, not {beta}")
        self._beta = beta

    def __call__(self, hidden_BTD: torch.Tensor, head: PolicyHead, batch: PreferenceBatch) -> LossAndFigures:
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


class PolicyGradient:
    """loss = - sum of A log pi(y) / stories of the global optimizer batch, A the advantage of a story y.

    That is REINFORCE (Williams 1992); with A the reward less the mean of the other rewards on the prompt it is RLOO (Kool et al.
    2019; Ahmadian et al. 2024). Log-probabilities are summed over tokens: means would favour short good and long bad stories.

    Where the policy has moved since it wrote the story, log pi(y) is replaced by the ratio of the story's probability to what it
    was, clipped as in PPO (Schulman et al. 2017): min(ratio A, clip(ratio) A). The ratio is that of the whole story, since the
    advantage is.

    Raises:
        UserError: the bounds of the ratio do not lie on both sides of 1.
    """

    monitor: ClassVar[str] = "nll_per_token"
    is_policy: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def __init__(self, clip_low: AboveZero = 0.8, clip_high: AboveZero = 1.25) -> None:
        if not 0 < clip_low < 1 < clip_high:
            raise UserError(f"objective.loss.clip_low={clip_low} must be below 1, and clip_high={clip_high} above it")
        self._low, self._high = clip_low, clip_high

    def __call__(self, hidden_BTD: torch.Tensor, head: PolicyHead, batch: AdvantageBatch) -> LossAndFigures:
        is_target_BT = batch.labels_BT != IGNORE
        hidden_ND, labels_N = hidden_BTD[is_target_BT], batch.labels_BT[is_target_BT]
        story_N = batch.documents_BT[is_target_BT] - 1
        has_targets_S = torch.bincount(story_N, minlength=len(batch.drawn_S)) > 0  # others stand in for rows that ran out
        advantage_S = torch.where(has_targets_S, batch.advantage_S, 0.0)
        ratio_S = torch.where(has_targets_S, self._ratios(hidden_ND, labels_N, story_N, head, batch), 1.0)
        clipped_S = torch.where(advantage_S > 0, ratio_S > self._high, ratio_S < self._low)
        surrogate_S = torch.minimum(ratio_S * advantage_S, ratio_S.clamp(self._low, self._high) * advantage_S)
        # The gradient of ratio * A is ratio * A times that of log pi. The head rounds its gradient before any loss scale, so its
        # weights should be of about 1.
        slope_S = torch.where(clipped_S, 0.0, ratio_S * advantage_S)
        scale = slope_S.abs().max().clamp(min=1e-30)
        weighted, nll_N = head(hidden_ND, labels_N, (slope_S / scale)[story_N])
        figures = {"nll_per_token": nll_N.sum() / batch.target_tokens, "clipped_share": clipped_S.sum() / batch.stories}
        return -surrogate_S.sum() / batch.stories + (weighted - weighted.detach()) * scale / batch.stories, figures

    @torch.no_grad()
    def _ratios(
        self, hidden_ND: torch.Tensor, labels_N: torch.Tensor, story_N: torch.Tensor, head: PolicyHead, batch: AdvantageBatch
    ) -> torch.Tensor:
        """Divide each story's probability by what it was when it was written; 1 where the policy is the one that wrote it."""
        if not batch.has_ratios:
            return torch.ones_like(batch.drawn_S)
        _, nll_N = head(hidden_ND, labels_N, torch.zeros_like(labels_N, dtype=torch.float32))
        logprob_S = -_sums(nll_N, story_N, len(batch.drawn_S))
        return torch.where(batch.drawn_S.isnan(), 1.0, (logprob_S - batch.drawn_S).exp())


class BradleyTerry:
    """loss = mean over pairs of -log sigmoid(s(chosen) - s(rejected)); the score s is read where a story ends.

    Bradley & Terry 1952; Stiennon et al. 2020.
    """

    monitor: ClassVar[str] = "pair_loss"
    is_policy: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False

    def __call__(self, hidden_BTD: torch.Tensor, head: Any, batch: PreferenceBatch) -> LossAndFigures:
        score_S = read_scores(hidden_BTD, head, batch.ends_S)
        loss, shares = _of_margins(_differences(score_S, batch), batch)
        in_pairs = score_S.detach()[torch.cat([batch.chosen_P, batch.rejected_P])]
        return loss, shares | {"score": in_pairs.sum() / (2 * batch.pairs)}  # pairs leave the zero of scores open


def read_scores(hidden_BTD: torch.Tensor, head: Any, ends_S: torch.Tensor) -> torch.Tensor:
    """The score of each story; fp32 of shape (S,)."""
    with torch.autocast(hidden_BTD.device.type, enabled=False):
        return head(hidden_BTD.flatten(0, 1)[ends_S].float())[:, 0]


def _differences(value_S: torch.Tensor, batch: PreferenceBatch) -> torch.Tensor:
    return value_S[batch.chosen_P] - value_S[batch.rejected_P]


def _of_margins(margin_P: torch.Tensor, batch: PreferenceBatch) -> LossAndFigures:
    """The share of the loss, and of what is to be logged; a margin of 0 is half right."""
    loss, margins = -logsigmoid(margin_P).sum() / batch.pairs, margin_P.detach()
    right = ((1 + torch.sign(margins)) / 2).sum() / batch.pairs
    return loss, {"pair_loss": loss.detach(), "pair_accuracy": right, "margin": margins.sum() / batch.pairs}


def _sums(value_N: torch.Tensor, story_N: torch.Tensor, stories: int) -> torch.Tensor:
    """Sums over the tokens of each story, always in the same order, on GPUs too."""
    return torch.segment_reduce(value_N, "sum", lengths=torch.bincount(story_N, minlength=stories), initial=0.0)

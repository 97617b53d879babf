"""Scales raw weights to a token-weighted mean of 1 over the training split, and diagnoses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rfr.errors import UserError
from rfr.objective.raw_weights import RawWeights, effective_sample_size


@dataclass(frozen=True, kw_only=True)
class WeightDiagnostics:
    """How unequal the weights are, and how much of the data still counts."""

    ess: float  # Kish's effective sample size, as a share of the stories, in (0, 1]
    ess_unclipped: float
    largest_share: float  # of the weight of all tokens, the most that one story holds, in (0, 1]
    clipped_share: float  # of the stories, in [0, 1)
    entropy: float  # of the stories' shares of the weight, over that of equal shares, in [0, 1]
    stories: int
    figures: dict[str, float]  # of the weight function, such as its beta

    def shown(self) -> dict[str, str]:
        """For people."""
        return {
            "ESS/N": f"{self.ess:.3f}" + (f" ({self.ess_unclipped:.3f} before clipping)" if self.clipped_share else ""),
            "largest weight's share": f"{self.largest_share:.2%}",
            "stories clipped": f"{self.clipped_share:.2%}",
            "evenness of the weights": f"{self.entropy:.3f} (entropy; 1: all alike)",
            **{name: f"{value:.4g}" for name, value in self.figures.items()},
        }

    def as_dict(self) -> dict[str, float]:
        """Flat, for logs."""
        return {**{name: value for name, value in vars(self).items() if name != "figures"}, **self.figures}


def story_weights(
    function: RawWeights, rewards: np.ndarray, tokens: np.ndarray, clip: float | None = None, ess_floor: float = 0.0
) -> tuple[np.ndarray, WeightDiagnostics]:
    """Final weights of a split, float64 of shape (stories,), and their health.

    Args:
        rewards: one per story, or advantages.
        tokens: target tokens per story.
        clip: no story weighs more than this times the mean story, before the rest is scaled up again.
        ess_floor: effective sample size, in [0, 1), below which there is no run.

    Raises:
        UserError: a reward is NaN or infinite; `clip` is not above 1, or `ess_floor` not in [0, 1).
        UserError: the effective sample size is below the floor.
    """
    if clip is not None and not clip > 1:
        raise UserError(f"objective.clip must be above 1, the mean weight, not {clip}")
    if not 0 <= ess_floor < 1:
        raise UserError(f"objective.ess_floor must be at least 0 and below 1, not {ess_floor}")
    if not np.isfinite(rewards).all():
        raise UserError(f"{int((~np.isfinite(rewards)).sum())} rewards are NaN or infinite: check the scores in the store")
    unclipped, figures = function(np.asarray(rewards, dtype=np.float64))
    raw = unclipped if clip is None else np.minimum(unclipped, clip * unclipped.mean())
    # Divide the two sums, not w by their quotient: constant weights then come out as exactly 1.0.
    weights = raw * tokens.sum() / (raw * tokens).sum()
    shares = raw * tokens / (raw * tokens).sum()
    health = WeightDiagnostics(
        ess=effective_sample_size(raw),
        ess_unclipped=effective_sample_size(unclipped),
        largest_share=float(shares.max()),
        clipped_share=float((raw < unclipped).mean()),
        entropy=_evenness(shares),
        stories=len(raw),
        figures=figures,
    )
    if health.ess < ess_floor:
        raise UserError(
            f"the weights leave ESS/N = {health.ess:.2g}, below objective.ess_floor={ess_floor}: one of {len(raw):,} stories "
            f"holds {health.largest_share:.0%} of the weight. Raise beta, lower objective.clip, or take a reward without "
            "so long a tail, such as reward=thread_rank"
        )
    return weights, health


def _evenness(shares: np.ndarray) -> float:
    if len(shares) == 1:
        return 1.0
    held = shares[shares > 0]
    return float(-(held * np.log(held)).sum() / np.log(len(shares)))

"""Recommends a reward for a corpus, by what text predicts of each, or says that no difference can be told."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from rfr.evaluate.text_correlation import TextCorrelation
from rfr.utils.intervals import ENOUGH_GROUPS, too_few

# The more adjusted reward has to earn its place. adjusted_rank comes before thread_rank, which it becomes where time does not
# matter.
SIMPLEST_FIRST = ("adjusted_rank", "thread_rank", "residual")
TOLERANCE = 0.016  # of correlation with the prediction: what may be lost by a simpler reward
MANY_THREADS = 100  # below, nothing may be lost: a reward that is fitted gets better with more threads, and may overtake


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A reward for a corpus, or None, and why."""

    reward: str | None
    reasons: list[str]


def recommend(text: TextCorrelation | None) -> Recommendation:
    """The simplest reward that surpasses all simpler ones, and that no other one surpasses by more than `TOLERANCE`.

    The constants were chosen on simulated subreddits; `make bench-advice` measures on others how often the advice is right.

    Args:
        text: what text tells of each; None: in too few threads to ask.
    """
    if text is None or text.threads < ENOUGH_GROUPS:
        return Recommendation(reward=None, reasons=[too_few(0 if text is None else text.threads, "threads with two replies")])
    low, _ = text.interval(text.best)
    assert low is not None
    if low <= 0:
        return Recommendation(reward=None, reasons=["text is not shown to predict any reward here"])
    order = sorted(range(len(text.orderings)), key=lambda place: _simplicity(text.orderings[place]))
    if len(order) == 1:
        return Recommendation(
            reward=_named(text.orderings[0]),
            reasons=[f"all rewards that can be had here order replies alike: {', '.join(text.orderings[0])}"],
        )
    for place, candidate in enumerate(order):
        reasons = _reasons(text, candidate, order[:place], order[place + 1 :])
        if reasons is not None:
            return Recommendation(reward=_named(text.orderings[candidate]), reasons=reasons)
    others = ", ".join(_named(text.orderings[place]) for place in order if place != text.best)
    first = _named(text.orderings[text.best])
    return Recommendation(
        reward=None, reasons=[f"no difference can be told: text predicts {first} best, but not so much better than {others}"]
    )


def _reasons(text: TextCorrelation, candidate: int, simpler: list[int], others: list[int]) -> list[str] | None:
    """Why a reward may be recommended; None: it may not."""
    tolerance = TOLERANCE if text.threads >= MANY_THREADS else 0.0
    allowed = {**dict.fromkeys(simpler, 0.0), **dict.fromkeys(others, tolerance)}
    for place, most in allowed.items():
        _, high = text.ahead(place, candidate)
        assert high is not None
        if high >= most:
            return None
    name = _named(text.orderings[candidate])
    shown_worse = [place for place in others if (text.ahead(candidate, place).low or 0.0) > 0]
    better = ", ".join(_named(text.orderings[place]) for place in (*simpler, *shown_worse))
    not_worse = ", ".join(_named(text.orderings[place]) for place in others if place not in shown_worse)
    margin = f" by more than {tolerance} of correlation" if tolerance else ""
    return list(chain(
        [f"text predicts {name} better than {better}"] if better else [],
        [f"{not_worse} can't be better than {name}{margin}"] if not_worse else [],
    ))  # fmt: skip


def _simplicity(rewards: list[str]) -> int:
    """Place in `SIMPLEST_FIRST` of the simplest reward of an ordering."""
    return min((SIMPLEST_FIRST.index(name) for name in rewards if name in SIMPLEST_FIRST), default=len(SIMPLEST_FIRST))


def _named(rewards: list[str]) -> str:
    """The reward that stands for an ordering: the one that keeps the popularity of threads out, where it is among them."""
    return next((name for name in SIMPLEST_FIRST if name in rewards), rewards[0])

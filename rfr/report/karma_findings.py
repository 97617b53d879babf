"""Says in plain sentences what a corpus's karma is worth, and only what its figures support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rfr.report.html import as_sentence
from rfr.utils.intervals import ENOUGH_GROUPS, too_few

ASSUMPTION = "This assumes that text, once these are taken out, tells of karma only through what readers see in the story itself."


def karma_findings(report: Mapping[str, Any]) -> list[str]:
    """Sentences, the most important first: is karma a reward here, which one, how sure, what another one loses."""
    text = report["text"]
    if text is None or text["threads"] < ENOUGH_GROUPS:
        threads = 0 if text is None else text["threads"]
        return [f"Is karma a reward here? {as_sentence(too_few(threads, 'threads with two replies or more'))}"]
    return [_on_karma(text), _on_choice(report["recommended"]), *_on_losses(report), *_on_removed(text)]


def _on_karma(text: Mapping[str, Any]) -> str:
    best = text["orderings"][0]
    measured = (
        f"in threads that it has not seen, a light text model's prediction has a rank correlation of {best['correlation']:.2f} "
        f"({best['low']:.2f} to {best['high']:.2f}) with {best['rewards'][0]} within the thread"
    )
    plain = next((row for row in text["orderings"][1:] if "karma" in row["rewards"]), None)
    beside = "" if plain is None else f", and of {plain['correlation']:.2f} with karma as it stands"
    if best["low"] > 0:
        return (
            f"Karma is a reward here, as far as text can tell: {measured}{beside}. It would be 0 if there were no merit in karma "
            "and the assumption below held."
        )
    return f"Karma is not shown to be a reward here: {measured}, and 0 can't be ruled out."


def _on_choice(recommended: Mapping[str, Any]) -> str:
    reasons = "; ".join(recommended["reasons"])
    if recommended["reward"] is None:
        return as_sentence(reasons)
    return f"Take reward={recommended['reward']}: {reasons}."


def _on_losses(report: Mapping[str, Any]) -> Iterator[str]:
    """What is lost by each of the others, where that is shown."""
    best, *others = report["text"]["orderings"]
    lost = [
        f"{row['rewards'][0]} loses {row['behind'] / best['correlation']:.0%} of it "
        f"({row['behind_low'] / best['correlation']:.0%} to {row['behind_high'] / best['correlation']:.0%})"
        for row in others
        if row["behind_low"] > 0
    ]
    if lost and best["low"] > 0:
        yield f"Of what text tells of {best['rewards'][0]}, {', '.join(lost)}."


def _on_removed(text: Mapping[str, Any]) -> Iterator[str]:
    """What was taken out that is no merit; the correlation may also grow by it."""
    removed = ", ".join(f"{name} ({_fell(share)})" for name, share in text["removed"].items())
    yield f"From the prediction was taken out what it owes to {removed}. {ASSUMPTION} No interval covers that."


def _fell(share: float) -> str:
    return f"the correlation fell by {share:.1%}" if share > 0 else "the correlation did not fall"

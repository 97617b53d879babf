"""Says in plain sentences what a chain of policies shows, and only what its figures support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rfr.report.html import as_sentence
from rfr.utils.intervals import ENOUGH_GROUPS, too_few

WORDS = {"quality": "true quality", "watch": "gold's score", "score": "the judge's score"}  # of measures, the best first
LENGTHS = (0.8, 1.25)  # of the start's stories; others are told

Report = Mapping[str, Any]


def measure_of(report: Report) -> str:
    """What policies are compared by: the true quality, else gold's score, else the judge's."""
    return next(measure for measure in WORDS if measure in report["policies"][0])


def chain_findings(report: Report) -> list[str]:
    """Sentences, the most important first."""
    return [*_on_gains(report), *_on_lengths(report), *_on_measure(report)]


def _on_gains(report: Report) -> Iterator[str]:
    measure, start = measure_of(report), report["start"]
    if report["prompts"] < ENOUGH_GROUPS:
        yield f"Does any of them write better than {start}? {as_sentence(too_few(report['prompts'], 'prompts'))}"
        return
    first, of_gain = report["policies"][0]["temperature"], f"{measure}_gain"
    others = [row for row in report["policies"] if row["temperature"] == first and of_gain in row]
    for row in sorted(others, key=lambda row: -row[of_gain]["gain"]):
        gain = row[of_gain]
        relation = "above" if gain["low"] > 0 else "below" if gain["high"] < 0 else "not told from"
        yield (
            f"{WORDS[measure][0].upper()}{WORDS[measure][1:]} of {row['policy']} is {row[measure]:.3f} at temperature {first:g}, "
            f"{relation} that of {start}: {gain['gain']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}), lengths being equal "
            f"{_controlled(gain)}."
        )


def _controlled(gain: Mapping[str, Any]) -> str:
    low, high = gain["length_controlled_low"], gain["length_controlled_high"]
    return f"{gain['length_controlled']:+.3f} ({low:+.3f} to {high:+.3f})"


def _on_lengths(report: Report) -> Iterator[str]:
    first = report["policies"][0]["temperature"]
    rows = {row["policy"]: row for row in report["policies"] if row["temperature"] == first}
    for name, row in rows.items():
        ratio = row["length"] / rows[report["start"]]["length"]
        if not LENGTHS[0] <= ratio <= LENGTHS[1]:
            yield f"Stories of {name} are {ratio:.2f} times as long as those of {report['start']}."


def _on_measure(report: Report) -> Iterator[str]:
    if measure_of(report) == "score":
        yield "Nobody else judged these stories: that the score rises against which a policy was trained proves nothing."
    elif measure_of(report) == "watch":
        yield "Gold is a model too: what it has in common with the judge, such as the model that both began with, it can't see."

"""The HTML page of `report=policy`. It shows stories as text, whatever they contain."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any

from rfr.report.findings import SCORES, findings

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: left; font-weight: normal; }
thead th { font-weight: bold; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
article { border-left: 3px solid #c96; padding: .2rem 1rem; margin: 1rem 0; } article p { white-space: pre-wrap; }
svg { vertical-align: middle; overflow: visible; margin: 0 .5rem; }
svg .range { stroke: #c96; stroke-width: 3; } svg .coin { stroke: #999; stroke-dasharray: 3 3; }
ul.verdict { background: #fbf6ef; padding: 1rem 1rem 1rem 2.5rem; }
"""
EXPLANATION = (
    "Pairs of held-out replies to one post; in so many of them the score is higher for the reply with more karma. Bars are 95 % "
    "intervals over threads, the dashed line is a coin. What knows nothing but length, time or the story without its prompt "
    "stands beneath the policy. Rewards are made of karma: they show what their adjustment changes."
)
WIDTH_PX, HEIGHT_PX = 240, 18  # of a plotted interval, in pixels; its axis runs from 0 to 1


def evaluation_page(evaluation: Mapping[str, Any], stories: SequenceOf[Mapping[str, str]]) -> str:
    """The page as a string."""
    said = "".join(f"<li>{safe(sentence)}" for sentence in findings(evaluation))
    plain = {name: value for name, value in evaluation.items() if not isinstance(value, (Mapping, list))}
    samples = "".join(f"<article><b>{safe(s['prompt'])}</b><p>{safe(s['response'])}</p></article>" for s in stories)
    groups = "".join(f"<h2>{safe(name.replace('_', ' '))}</h2>{_figures(figures)}" for name, figures in _sections(evaluation))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>rfr evaluation</title><style>{STYLE}</style>"
        f"<h1>rfr evaluation</h1><ul class=verdict>{said}</ul>{_figures(plain)}"
        f"<h2>Does it rank replies as karma does?</h2><p>{EXPLANATION}</p>"
        f"{''.join(_accuracies(evaluation['pair_accuracy'], ratio) for ratio in _values(evaluation['pair_accuracy'], 'ratio'))}"
        f"{groups}"
        f"<h2>Stories it wrote</h2>{samples or '<p>none asked for</p>'}</html>"
    )


def _accuracies(rows: SequenceOf[Mapping[str, Any]], ratio: Any) -> str:
    mine = [row for row in rows if row["ratio"] == ratio]
    tables = "".join(_condition(mine, condition) for condition in _values(mine, "condition"))
    return f"<h3>One has {safe(ratio)} times the other's karma, or more</h3>{tables}"


def _condition(rows: SequenceOf[Mapping[str, Any]], condition: str) -> str:
    mine = [row for row in rows if row["condition"] == condition]
    head = f"<thead><tr><th>{safe(condition)}<th>accuracy<th>95 % interval<th>pairs<th></tr></thead>"
    return f"<table>{head}{''.join(map(_accuracy_row, mine))}</table>"


def _accuracy_row(row: Mapping[str, Any]) -> str:
    if not row["pairs"]:
        return f"<tr><td>{safe(row['score'])}<td colspan=4>n/a: no such pairs</tr>"
    numbers = (f"{row['accuracy']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}", f"{row['pairs']:,}")
    cells = "".join(f"<td class=number>{number}" for number in numbers)
    return f"<tr><td>{safe(row['score'])}{cells}<td>{_interval(row['accuracy'], row['low'], row['high'])}</tr>"


def _interval(value: float, low: float, high: float) -> str:
    """A point and its interval on an axis from 0 to 1."""
    at = {name: f"{WIDTH_PX * number:.1f}" for name, number in (("value", value), ("low", low), ("high", high), ("coin", 0.5))}
    middle = HEIGHT_PX / 2
    return (
        f"<svg width={WIDTH_PX} height={HEIGHT_PX} role=img aria-label='{value:.3f}'>"
        f"<line class=coin x1={at['coin']} x2={at['coin']} y1=0 y2={HEIGHT_PX} />"
        f"<line class=range x1={at['low']} x2={at['high']} y1={middle} y2={middle} />"
        f"<circle cx={at['value']} cy={middle} r=4 fill=#853 /></svg>"
    )


def _sections(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Figures that stand together, with a title: the policy's own, those of other policies, and the gains over them."""
    yield from ((name, figures) for name, figures in evaluation.items() if isinstance(figures, Mapping))
    yield from ((f"beside it: {other['model']}", other) for other in evaluation.get("others", ()))
    for gain in evaluation.get("gains", ()):
        figures = {name: value for name, value in gain.items() if name not in ("score", "over")}
        yield f"{SCORES[gain['score']]} over that of {gain['over']}", figures


def _figures(figures: Mapping[str, Any]) -> str:
    rows = (f"<tr><th>{safe(name.replace('_', ' '))}<td class=number>{_shown(value)}</tr>" for name, value in figures.items())
    return f"<table>{''.join(rows)}</table>"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return safe(", ".join(f"{name.replace('_', ' ')} {_shown(inner)}" for name, inner in value.items()))
    return safe(f"{value:.4g}" if isinstance(value, float) else value)


def _values(rows: SequenceOf[Mapping[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def safe(value: Any) -> str:
    """As text, whatever it holds."""
    return html.escape(str(value))

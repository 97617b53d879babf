"""One self-contained HTML page: what an evaluation found. Stories are shown as text whatever they hold."""

from __future__ import annotations

import html
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
article { border-left: 3px solid #c96; padding: .2rem 1rem; margin: 1rem 0; } article p { white-space: pre-wrap; }
.bar { display: inline-block; height: .7rem; background: #c96; vertical-align: middle; }
"""


def evaluation_page(evaluation: Mapping[str, Any], stories: SequenceOf[Mapping[str, str]]) -> str:
    """The page as a string."""
    accuracies = "".join(_accuracy_row(name, found) for name, found in evaluation["pair_accuracy"].items())
    figures = "".join(_row(name, value) for name, value in evaluation.items() if not isinstance(value, Mapping))
    samples = "".join(f"<article><b>{_safe(s['prompt'])}</b><p>{_safe(s['response'])}</p></article>" for s in stories)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>rfr evaluation</title><style>{STYLE}</style>"
        f"<h1>rfr evaluation</h1><table>{figures}</table><h2>Does it rank replies as karma does?</h2>"
        "<p>Same-thread pairs of held-out replies; 0.5 is a coin. A score that only knows the length stands beside the model.</p>"
        f"<table><tr><th>score, pairs<th>accuracy<th>95 % interval<th>pairs<th></tr>{accuracies}</table>"
        f"<h2>Stories it wrote</h2>{samples or '<p>none asked for</p>'}</html>"
    )


def _row(name: str, value: Any) -> str:
    shown = f"{value:.4f}" if isinstance(value, float) else value
    return f"<tr><th>{_safe(name)}<td class=number>{_safe(shown)}</tr>"


def _accuracy_row(name: str, found: Mapping[str, Any]) -> str:
    if not found["pairs"]:
        return f"<tr><td>{_safe(name)}<td colspan=4>n/a: no such pairs</tr>"
    width = f"{20 * found['accuracy']:.2f}rem"
    interval = f"{found['low']:.3f} to {found['high']:.3f}"
    bar = f"<span class=bar style='width:{width}'></span>"
    accuracy, pairs = f"{found['accuracy']:.3f}", found["pairs"]
    return f"<tr><td>{_safe(name)}<td class=number>{accuracy}<td class=number>{interval}<td class=number>{pairs}<td>{bar}</tr>"


def _safe(value: Any) -> str:
    return html.escape(str(value))

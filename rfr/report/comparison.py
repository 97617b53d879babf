"""The HTML page that compares runs: a table, curves, parallel coordinates, stories."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfr.report.html import safe

# What figures and curves are called on the page; settings are called by their keys, which one types.
WORDS = {
    "train/loss": "training loss (weighted as the objective weighs)",
    "val/nll_per_token": "validation loss, nats per token",
    "val/pair_loss": "validation loss of pairs",
    "val/pair_accuracy": "accuracy on validation pairs",
    "held_out/score": "judge's score, held-out prompts",
    "held_out/watch": "watch judge's score, held-out prompts",
    "held_out/quality": "true quality, held-out prompts",
    "held_out/kl": "KL from the start policy, nats a story",
    "held_out/length": "tokens a story",
    "held_out/cut_off": "share of stories cut off",
    "round/score_spread": "spread of the score within a prompt",
    "round/truth_correlation": "score and true quality, correlation within a prompt",
    "round/ess_within_prompts": "ESS/N within prompts",
    "round/entropy_per_token": "entropy, nats a token",
    "round/distinct_3": "distinct 3-grams",
    "round/self_bleu": "self-BLEU",
    "round/copied_tokens": "longest copy from a training story, tokens",
    "train/clipped_share": "share of stories whose ratio was clipped",
    "quality": "true quality",
    "ess": "effective share of stories (ESS/N)",
    "tokens_per_second": "tokens per second",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
HERE = Path(__file__).resolve().parent
SHELL = """<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">
<meta http-equiv=Content-Security-Policy
content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>rfr: {title}</title><link rel=icon href="data:,"><style>{style}</style></head>
<body><header><h1>{title}</h1><p>{about}</p><p id=summary></p></header>
<section id=best-section><h2>The best of each</h2><table id=best></table></section>
<section><h2>Runs</h2><div class=tools>
<label>find <input id=find type=search placeholder="cosine 0.001"></label>
<button id=all>show all</button><button id=none>hide all</button><button id=top>the ten best</button>
<label>colour by <select id=colour></select></label></div>
<p id=bold></p><div class=wide><table id=runs><thead></thead><tbody></tbody></table></div></section>
<section><h2>Curves</h2><div class=tools>
<label>over <select id=axis></select></label><label>smooth <input id=smooth type=range min=0 max=0.98 step=0.02 value=0></label>
<label><input id=log type=checkbox> logarithmic</label><span id=hint></span></div><div id=charts></div></section>
<section id=coordinates-section><h2>Settings and what came of them</h2>
<p>One line per run. Drag along an axis to keep the runs that pass there; click it to let go.</p>
<canvas id=coordinates></canvas></section>
<section id=samples-section><h2>Stories</h2><div class=tools><label>prompt <select id=prompt></select></label></div>
<div id=stories></div></section>
<script type=application/json id=data>{data}</script><script>{script}</script></body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The runs that a page compares.

    Args:
        varied: the keys in which the runs differ.
        figures: the names of the figures that the table shows.
        metric: the figure that ranks the runs.
        rows: one per run: `run`, `state`, and the values of the keys in `varied` and `figures`.
        best: one per value of a varied key: `of`, `with`, `mean`, `low`, `high`, `runs`.
        failures: one per run: why it failed, or None.
        curves: one per run: columns of equal length.
        samples: one per prompt: `prompt`, and `stories` with `run` (an index of `rows`), `step` and `text`.
    """

    varied: Sequence[str]
    figures: Sequence[str]
    metric: str | None
    rows: Sequence[Mapping[str, Any]]
    best: Sequence[Mapping[str, Any]]
    failures: Sequence[str | None]
    curves: Sequence[Mapping[str, Sequence[float | None]]]
    samples: Sequence[Mapping[str, Any]]


def comparison_page(title: str, comparison: Comparison, about: Mapping[str, Any] | None = None) -> str:
    """The page as a string.

    Args:
        about: what the page's head says: the corpus, the command, the date.
    """
    return SHELL.format(
        title=safe(title),
        about=safe("; ".join(f"{name}: {value}" for name, value in (about or {}).items() if value is not None)),
        style=(HERE / "comparison.css").read_text(),
        script=(HERE / "comparison.js").read_text(),
        data=_embedded({**vars(comparison), "words": WORDS}),
    )


def _embedded(data: Any) -> str:
    """JSON that can't end its script element, whatever the stories hold."""
    return json.dumps(_finite(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _finite(node: Any) -> Any:
    """JSON knows neither NaN nor infinity; they are shown as words."""
    if isinstance(node, float) and not math.isfinite(node):
        return str(node)
    if isinstance(node, Mapping):
        return {key: _finite(value) for key, value in node.items()}
    return [_finite(value) for value in node] if isinstance(node, list | tuple) else node

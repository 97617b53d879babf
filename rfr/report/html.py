"""What the pages of reports share: a style, a head that says what the page is about, tables that fit a phone, plots of
intervals.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any

STYLE = """
:root { --ink: #222; --soft: #666; --line: #ddd; --accent: #b5651d; --pale: #fbf6ef; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; color: var(--ink);
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; margin: 1rem 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; } h3 { font-size: 1rem; } p {
max-width: 46rem; } p.soft, dl { color: var(--soft); } dl.about { display: grid; grid-template-columns: max-content 1fr; gap: 0
1rem; margin: 0 0 1rem; font-size: .9rem; } dl.about dt { font-weight: 600; } dl.about dd { margin: 0; } table {
border-collapse: collapse; margin: .8rem 0; } td, th { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line);
text-align: left; vertical-align: top; font-weight: normal; } thead th { font-weight: 600; vertical-align: bottom; } tbody th {
max-width: 24rem; } tr.best > * { font-weight: 600; } td.number { font-variant-numeric: tabular-nums; } dd, h4, thead th, tbody
th { overflow-wrap: anywhere; } thead th { min-width: 4.5rem; } td small { color: var(--soft); white-space: nowrap; } ul.verdict
{ background: var(--pale); padding: 1rem 1rem 1rem 2.2rem; margin: 1rem 0; } ul.verdict li { max-width: 52rem; } ul.verdict
li:first-child { font-size: 1.1rem; font-weight: 600; } .stories { display: grid; grid-template-columns: repeat(auto-fit,
minmax(17rem, 1fr)); gap: .5rem 1.5rem; margin: 0 0 1.5rem; } .stories article { border-left: 3px solid var(--accent); padding:
0 0 0 1rem; } .stories p { white-space: pre-wrap; margin: .2rem 0; } .stories h4 { margin: 0; font-size: .85rem; color:
var(--soft); } svg { vertical-align: middle; max-width: 100%; } svg .range { stroke: #c96; stroke-width: 3; } svg .coin {
stroke: #999; stroke-dasharray: 3 3; } svg text { font-size: 12px; fill: var(--soft); } @media (max-width: 640px) {
  body { padding: .5rem 1rem 3rem; } dl.about { grid-template-columns: 1fr; }
  table, tbody, tr, td, tbody th { display: block; max-width: none; } thead { display: none; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; } td, tbody th { border: 0; padding: .05rem 0; }
  tbody th { font-weight: 600; } td:not([data-of=''])::before { content: attr(data-of) ": "; color: var(--soft); }
}
@media print {
  body { max-width: none; font-size: 11pt; } tr, article, svg, figure { break-inside: avoid; } h2, h3 { break-after: avoid; }
  ul.verdict { background: none; border: 1px solid var(--line); }
}
"""
WIDTH_PX, HEIGHT_PX = 160, 16  # of a plotted interval


def safe(value: Any) -> str:
    """As text, whatever it holds."""
    return html.escape(str(value))


def page(title: str, about: Mapping[str, Any], body: str) -> str:
    """A whole page.

    Args:
        about: what it is about, by name: the corpus, the reward, the model, the command, the date; those not known are left out.
        body: HTML.
    """
    facts = "".join(f"<dt>{safe(name)}<dd>{safe(value)}" for name, value in about.items() if value is not None)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>rfr: {safe(title)}</title><link rel=icon href='data:,'><style>{STYLE}</style>"
        f"<h1>{safe(title)}</h1><dl class=about>{facts}</dl>{body}</html>\n"
    )


def verdict(sentences: Iterable[str]) -> str:
    """What a report found, the most important first."""
    return f"<ul class=verdict>{''.join(f'<li>{safe(sentence)}' for sentence in sentences)}</ul>"


def table(head: SequenceOf[str], rows: Iterable[SequenceOf[str]], best: int | None = None) -> str:
    """A table whose rows become blocks on a narrow screen.

    Args:
        head: names of the columns; text.
        rows: cells; HTML. The first is the row's name.
        best: the row that is emphasised.
    """
    top = "".join(f"<th>{safe(name)}" for name in head)
    lines = []
    for index, (name, *cells) in enumerate(rows):
        values = "".join(f"<td class=number data-of='{safe(of)}'>{cell}" for of, cell in zip(head[1:], cells, strict=True))
        lines.append(f"<tr{' class=best' if index == best else ''}><th>{name}{values}</tr>")
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def with_interval(value: float | None, low: float | None, high: float | None, form: str = ".3f") -> str:
    """A value and its interval as HTML; the value alone where there is none."""
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:{form}}"
    return f"{value:{form}} <small>({low:{form}} to {high:{form}})</small>"


def interval_plot(
    value: float, low: float | None, high: float | None, ends: tuple[float, float] = (0, 1), mark: float = 0.5
) -> str:
    """A point and its interval on an axis, the mark dashed."""

    def at(number: float) -> float:
        return min(max(WIDTH_PX * (number - ends[0]) / (ends[1] - ends[0]), 0), WIDTH_PX)

    middle = HEIGHT_PX / 2
    band = (
        "" if low is None or high is None else f"<line class=range x1={at(low):.1f} x2={at(high):.1f} y1={middle} y2={middle} />"
    )
    return (
        f"<svg width={WIDTH_PX} height={HEIGHT_PX} role=img aria-label='{value:.3f}'>"
        f"<line class=coin x1={at(mark):.1f} x2={at(mark):.1f} y1=0 y2={HEIGHT_PX} />{band}"
        f"<circle cx={at(value):.1f} cy={middle} r=4 fill=#853 /></svg>"
    )


def as_sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."

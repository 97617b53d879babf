"""What the pages of reports share: a style, a head that says what the page is about, tables that fit a phone, plots of
intervals.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

STYLE = Path(__file__).with_name("page.css").read_text()
WIDTH_PX, HEIGHT_PX = 160, 16  # of a plotted interval
NONE = "–"  # in the cell of a figure that is not known


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
    top = "".join(f"<th>{safe(name).replace('/', '/<wbr>')}" for name in head)
    lines = []
    for index, (name, *cells) in enumerate(rows):
        values = "".join(
            f"<td class={'none' if cell == NONE else 'number'} data-of='{safe(of)}'>{cell}"
            for of, cell in zip(head[1:], cells, strict=True)
        )
        lines.append(f"<tr{' class=best' if index == best else ''}><th>{name}{values}</tr>")
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def with_interval(value: float | None, low: float | None, high: float | None, form: str = ".3f") -> str:
    """A value and its interval as HTML; the value alone where there is none."""
    if value is None:
        return NONE
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
        f"<svg class=interval width={WIDTH_PX} viewBox='0 0 {WIDTH_PX} {HEIGHT_PX}' role=img aria-label='{value:.3f}'>"
        f"<line class=coin x1={at(mark):.1f} x2={at(mark):.1f} y1=0 y2={HEIGHT_PX} />{band}"
        f"<circle cx={at(value):.1f} cy={middle} r=4 fill=#853 /></svg>"
    )


def as_sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."

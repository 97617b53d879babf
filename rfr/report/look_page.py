"""The table and the HTML page of `look=`.

Stories are shown as text: their markup is not interpreted, and no escape sequence reaches the terminal.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any

from rich.rule import Rule
from rich.text import Text

from rfr.utils.console import PipedConsole
from rfr.utils.terminal import plain, printable

BIN_PX, PLOT_PX = 38, 140  # the width of a bin, the height of the highest bar
HUES = (28, 205, 130, 280, 0, 170, 60, 320)  # of a row's documents in turn, in degrees
COLOURS = ("yellow", "blue", "green", "magenta", "red", "cyan")
WEIGHTS = {"prompt": "bold", "context": "dim italic", "story": "", "end": "reverse", "padding": "dim"}
SHOWN_CHARACTERS = 600  # characters of a text in the terminal; the page has all
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre, .row span { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; }
pre { border-left: 3px solid #ddd; padding: .1rem 1rem; margin: .5rem 0; }
pre, .row { max-height: 30rem; overflow: auto; } .row { line-height: 1.8; } .row span { padding: .15rem 0; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
.row .prompt { font-weight: 700; } .row .context { font-style: italic; opacity: .65; }
.row .end, .row .padding { color: #666; font-size: .85rem; } .removed { color: #a33; } summary { cursor: pointer; }
svg text { font-size: 11px; fill: #444; } .before { fill: #bbb; } .after { fill: #c96; }
figure { display: inline-block; margin: 1rem 1rem 1rem 0; }
"""


def print_looks(looks: Iterable[Any]) -> None:
    """Each story in the terminal: raw, cleaned, in segments, and the rows these stand in; long texts are shortened."""
    console = PipedConsole(width=None, soft_wrap=False)
    for look in looks:
        console.print(Rule(plain(_headline(look))))
        for name, text in (("as Reddit gave it", f"{look.raw_title}\n\n{look.raw}"), ("cleaned", _cleaned(look))):
            console.print(Text(name, style="bold underline"), _shortened(text), "", sep="\n")
        for kind, text in look.removed:
            console.print(Text(f"- {kind}: ", style="red") + _shortened(text))
        for number, segment in enumerate(look.segments, start=1):
            console.print(
                Text(_segment_title(look, number, segment), style="bold underline"), _shortened(segment.text), "", sep="\n"
            )
        for row, spans in look.rows.items():
            console.print(Text(f"row {row}", style="bold underline"))
            for span in spans:
                style = f"{COLOURS[span.document % len(COLOURS)]} {WEIGHTS[span.kind]}"
                console.print(Text(_span_title(span), style="dim") + Text(" ") + _shortened(span.text, 200, style))


def look_page(looks: SequenceOf[Any], ledger: Mapping[str, Any], title: str) -> str:
    """The page as a string: plots of lengths and of karma before and after, then the stories."""
    plots = "".join(
        _plot(f"{split}: {measure}", account["histograms"][measure])
        for split, account in ledger.items()
        for measure in account["histograms"]
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_safe(title)}</title><style>{STYLE}</style>"
        f"<h1>{_safe(title)}</h1><p>Replies by length and by karma, from the number under each pair of bars up to the next: "
        f"grey all that came in, orange what is kept.</p>"
        f"{plots}{''.join(_article(look) for look in looks)}</html>"
    )


def _article(look: Any) -> str:
    removed = "".join(f"<li class=removed>{_safe(kind)}: {_safe(text)}" for kind, text in look.removed)
    segments = "".join(
        f"<h3>{_safe(_segment_title(look, number, segment))}</h3><pre>{_safe(segment.text)}</pre>"
        for number, segment in enumerate(look.segments, start=1)
    )
    rows = "".join(f"<h3>row {row}</h3><div class=row>{''.join(map(_span, spans))}</div>" for row, spans in look.rows.items())
    return (
        f"<article><h2>{_safe(_headline(look))}</h2>"
        f"<div class=sides><section><h3>as Reddit gave it</h3><pre>{_safe(look.raw_title)}\n\n{_safe(look.raw)}</pre></section>"
        f"<section><h3>cleaned</h3><pre>{_safe(_cleaned(look))}</pre></section></div><ul>{removed}</ul>"
        f"<details><summary>{_segments_of(look)}</summary>{segments}</details>"
        f"<details open><summary>packed: bold prompt, italic context, a colour per document</summary>{rows}</details></article>"
    )


def _span(span: Any) -> str:
    colour = f"background: hsl({HUES[span.document % len(HUES)]} 70% 92%)" if span.document else ""
    text = {"end": "⏎ end of text ", "padding": f"{span.tokens} places of padding"}.get(span.kind) or span.text
    return f"<span class={span.kind} style='{colour}' title='{_safe(_span_title(span))}'>{_safe(text)}</span>"


def _headline(look: Any) -> str:
    karma = "unknown" if look.story.score is None else f"{look.story.score:,}"
    return f"reply {look.story.reply_id}: karma {karma}, {look.segments[-1].end:,} tokens in {_segments_of(look)}"


def _segments_of(look: Any) -> str:
    return "1 segment" if len(look.segments) == 1 else f"{len(look.segments)} segments"


def _cleaned(look: Any) -> str:
    return f"{look.story.prompt}\n\n{look.story.response}"


def _segment_title(look: Any, number: int, segment: Any) -> str:
    return f"segment {number} of {len(look.segments)}: tokens {segment.start:,} to {segment.end:,}, in row {segment.row}"


def _span_title(span: Any) -> str:
    return (
        f"{span.kind}, {span.tokens:,} tokens"
        if not span.document
        else f"document {span.document}, {span.kind}, {span.tokens:,} tokens"
    )


def _shortened(text: str, most: int = SHOWN_CHARACTERS, style: str = "") -> Text:
    lines = "\n".join(printable(line) for line in text.split("\n"))
    if len(lines) > most:
        lines = f"{lines[: most * 2 // 3]} […{len(lines) - most:,} characters…] {lines[-most // 3 :]}"
    return Text(lines, style=style)


def _plot(title: str, histogram: Mapping[str, SequenceOf[Any]]) -> str:
    before, after, names = histogram["came_in"], histogram["kept"], histogram["bins"]
    top = max(1, *before)
    bars = "".join(_bars(number, *counts, top) for number, counts in enumerate(zip(before, after, names, strict=True)))
    return (
        f"<figure><figcaption>{_safe(title)}, highest bar {top:,}</figcaption>"
        f"<svg width={len(names) * BIN_PX} height={PLOT_PX + 40} role=img>{bars}</svg></figure>"
    )


def _bars(number: int, before: int, after: int, name: str, top: int) -> str:
    left, rects = number * BIN_PX, ""
    for column, (kind, count) in enumerate((("before", before), ("after", after))):
        tall = PLOT_PX * count / top
        rects += f"<rect class={kind} x={left + 3 + 15 * column} width=14 y={PLOT_PX - tall:.1f} height={tall:.1f}>"
        rects += f"<title>{kind}: {count:,}</title></rect>"
    return f"{rects}<text x={left + 2} y={PLOT_PX + 14 + 12 * (number % 2)}>{_safe(name)}</text>"


def _safe(value: Any) -> str:
    return html.escape(str(value))

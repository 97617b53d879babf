"""Line plots as SVG, for pages that need no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rfr.report.histogram import COLOURS
from rfr.report.html import page, safe

WIDTH, HEIGHT, LEFT, BOTTOM = 860, 320, 70, 30
Curve = tuple[Sequence[float], Sequence[float]]


def lines_page(title: str, sentence: str, curves: Mapping[str, Curve], *, log_x: bool = False, mark: float | None = None) -> str:
    """A page with one plot.

    Args:
        sentence: a sentence below the title.
        curves: (xs, ys) by name.
        mark: the x of a vertical line.
    """
    return page(title, {}, f"<p>{safe(sentence)}</p>{_plot(curves, log_x, mark)}")


def _plot(curves: Mapping[str, Curve], log_x: bool, mark: float | None) -> str:
    scale = math.log10 if log_x else float
    xs = [scale(x) for along, _ in curves.values() for x in along]
    ys = [y for _, values in curves.values() for y in values]
    (left, right), (low, high) = _range(xs), _range(ys)

    def at_x(x: float) -> float:
        return LEFT + (scale(x) - left) / (right - left) * (WIDTH - LEFT - 10)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - BOTTOM - 10)

    drawn = "".join(
        f"<polyline fill=none stroke='{_colour(index)}' stroke-width=2 points='{_points(curve, at_x, at_y)}'>"
        f"<title>{safe(name)}</title></polyline>"
        for index, (name, curve) in enumerate(curves.items())
    )
    ticks = "".join(
        f"<text x={LEFT - 8} y={at_y(y) + 4:.1f} text-anchor=end>{y:.3g}</text>" for y in (low, (low + high) / 2, high)
    ) + "".join(
        f"<text x={at_x(x):.1f} y={HEIGHT - 8} text-anchor=middle>{x:.3g}</text>"
        for x in (10**at if log_x else at for at in (left, (left + right) / 2, right))
    )
    line = "" if mark is None else f"<line class=coin x1={at_x(mark):.1f} x2={at_x(mark):.1f} y1=0 y2={HEIGHT - BOTTOM} />"
    names = "".join(f"<li style='color:{_colour(index)}'>{safe(name)}" for index, name in enumerate(curves))
    legend = f"<ul>{names}</ul>" if len(curves) > 1 else ""
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width=100% font-size=12>{line}{drawn}{ticks}</svg>{legend}"


def _points(curve: Curve, at_x: object, at_y: object) -> str:
    return " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in zip(*curve, strict=True))  # type: ignore[operator]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]

"""Draws a figure after each round of several runs as SVG, with its intervals, beside levels of policies that have no rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from itertools import cycle
from typing import NamedTuple

from rfr.report.histogram import COLOURS
from rfr.report.html import safe

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 360, 60, 250, 28, 44
LABEL_PX = 15  # between two names, at least
TICKS, MOST_NUMBERS = 5, 16  # on the axes
STEPS = (1, 2, 2.5, 5, 10)
Scale = Callable[[float], float]


class Point(NamedTuple):
    """A figure and its interval, after so many rounds; None: there is none."""

    round: int
    value: float
    low: float | None
    high: float | None


def round_plot(title: str, runs: Mapping[str, SequenceOf[Point]], levels: Mapping[str, float]) -> str:
    """An SVG that can stand in a page or in a file of its own.

    Args:
        runs: points by the name of the run, with lines between them.
        levels: horizontal lines by their names.
    """
    points = [point for of_run in runs.values() for point in of_run]
    ends = [end for point in points for end in (point.value, point.low, point.high) if end is not None]
    low, high, step = _axis([*ends, *levels.values()])
    last = max(point.round for point in points)

    def at_x(number: float) -> float:
        return LEFT + number / max(last, 1) * (WIDTH - LEFT - RIGHT)

    def at_y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    colours = cycle(COLOURS)
    of_runs = list(zip(runs.items(), colours, strict=False))  # more runs than colours take them again
    labels = [(at_y(level), name, colour) for (name, level), colour in zip(levels.items(), colours, strict=False)]
    drawn = [*_frame(title, last, low, high, step, at_x, at_y), *(_level(y, colour) for y, _, colour in labels)]
    for (name, of_run), colour in of_runs:
        drawn += _run(of_run, colour, at_x, at_y)
        labels.append((at_y(of_run[-1].value), name, colour))
    drawn += [_text(WIDTH - RIGHT + 10, y + 4, name, "start", colour) for y, name, colour in _apart(labels)]
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' font-family='sans-serif' "
        f"font-size='12' role='img'><title>{safe(title)}</title><rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>"
        f"{''.join(drawn)}</svg>"
    )


def _frame(title: str, last: int, low: float, high: float, step: float, at_x: Scale, at_y: Scale) -> list[str]:
    """The title, and both axes with their numbers."""
    right, bottom, drawn = WIDTH - RIGHT, HEIGHT - BOTTOM, []
    for tick in range(round((high - low) / step) + 1):
        y = at_y(low + tick * step)
        drawn.append(f"<line x1='{LEFT}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='#eee'/>")
        drawn.append(_text(LEFT - 8, y + 4, f"{low + tick * step:.4g}", "end"))
    every = -(-last // MOST_NUMBERS) or 1
    drawn += [_text(at_x(number), bottom + 16, str(number), "middle") for number in range(0, last + 1, every)]
    names = [_text((LEFT + right) / 2, bottom + 34, "rounds of own stories", "middle"), _text(LEFT, 16, title, weight="600")]
    return drawn + names


def _level(y: float, colour: str) -> str:
    ends = f"x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y:.1f}' y2='{y:.1f}'"
    return f"<line {ends} stroke='{colour}' stroke-width='1.5' stroke-dasharray='5 4'/>"


def _run(points: SequenceOf[Point], colour: str, at_x: Scale, at_y: Scale) -> list[str]:
    """A line, a dot for each point, and whiskers where there are intervals."""
    places = [(at_x(point.round), at_y(point.value)) for point in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = [f"<polyline fill='none' stroke='{colour}' stroke-width='2.5' points='{line}'/>"]
    for point, (x, y) in zip(points, places, strict=True):
        if point.low is not None and point.high is not None:
            whisker = f"x1='{x:.1f}' x2='{x:.1f}' y1='{at_y(point.low):.1f}' y2='{at_y(point.high):.1f}'"
            drawn.append(f"<line {whisker} stroke='{colour}' stroke-width='1' opacity='.5'/>")
        drawn.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>")
    return drawn


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#555", weight: str = "400") -> str:
    style = f"style='fill: {colour}; font-weight: {weight}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {style}>{safe(text)}</text>"


def _axis(values: SequenceOf[float]) -> tuple[float, float, float]:
    """Both ends and the step of an axis with round numbers."""
    low, high = min(values), max(values)
    rough = (high - low) / TICKS if high > low else abs(high) / TICKS or 1.0
    scale = 10.0 ** len(str(int(1 / rough))) if rough < 1 else 10.0 ** -(len(str(int(rough))) - 1)
    step = next(one for one in STEPS if one >= rough * scale) / scale
    first, last = int(low // step), int(-(-high // step))
    return first * step, max(last, first + 1) * step, step


def _apart(labels: SequenceOf[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Names moved so far down that none lies on another, then up where they would leave the picture."""
    placed: list[tuple[float, str, str]] = []
    for y, name, colour in sorted(labels):
        placed.append((max(y, placed[-1][0] + LABEL_PX) if placed else y, name, colour))
    over = max(0.0, placed[-1][0] - (HEIGHT - 8)) if placed else 0.0
    return [(y - over, name, colour) for y, name, colour in placed]

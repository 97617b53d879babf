"""The picture of rounds: well-formed, with round numbers on its axis, and names that do not lie on one another."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from rfr.report.round_plot import LABEL_PX, Point, round_plot

RUNS = {
    "agent <a>": [Point(0, 0.47, 0.45, 0.49), Point(1, 0.52, 0.5, 0.54), Point(2, 0.6, None, None)],
    "twin": [Point(0, 0.47, 0.45, 0.49), Point(1, 0.45, 0.43, 0.47), Point(2, 0.44, 0.42, 0.46)],
}


def _texts(svg: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]


def test_runs_and_levels_are_named_apart() -> None:
    texts = _texts(round_plot("true quality", RUNS, {"bc": 0.441, "rwr": 0.44, "best of 16": 0.44}))
    names = {element.text: float(element.attrib["y"]) for element in texts}
    assert {"agent <a>", "twin", "bc", "rwr", "best of 16"} <= set(names)
    heights = sorted(names[name] for name in ("twin", "bc", "rwr", "best of 16"))
    assert all(lower - upper >= LABEL_PX - 0.11 for upper, lower in pairwise(heights))


@pytest.mark.parametrize(
    ("values", "ticks"),
    [((0.43, 0.61), ["0.4", "0.45", "0.5", "0.55", "0.6", "0.65"]), ((-1.3, 2.2), ["-2", "-1", "0", "1", "2", "3"]),
     ((12.0, 55.0), ["10", "20", "30", "40", "50", "60"]), ((0.5, 0.5), None)],
)  # fmt: skip
def test_the_axis_has_round_numbers(values: tuple[float, float], ticks: list[str] | None) -> None:
    svg = round_plot("quality", {"run": [Point(number, value, None, None) for number, value in enumerate(values)]}, {})
    numbers = [element.text for element in _texts(svg) if element.attrib["text-anchor"] == "end"]
    assert ticks is None or numbers == ticks
    heights = [float(y) for y in re.findall(r"cy='([\d.]+)'", svg)]
    assert len(heights) == 2
    assert all(0 < y < 360 for y in heights)

"""Histograms of several groups on one axis, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rfr.report.html import safe

COLOURS = ("#b5651d", "#2a6f97", "#588157", "#9d4edd", "#c1121f", "#6c757d", "#e09f3e", "#0a9396")
WIDTH, HEIGHT, BOTTOM, BINS = 640, 150, 22, 24


def histogram(groups: Mapping[str, Sequence[float]]) -> str:
    """The share of each group's values in each bin, as steps of its colour, with the mean dashed."""
    values = np.concatenate([np.asarray(group, dtype=np.float64) for group in groups.values()])
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    shares = {name: np.histogram(group, edges)[0] / len(group) for name, group in groups.items()}
    top = max(float(share.max()) for share in shares.values())
    drawn, legend = [], []
    for number, (name, share) in enumerate(shares.items()):
        colour, mean = COLOURS[number % len(COLOURS)], float(np.mean(groups[name]))
        heights = (HEIGHT - BOTTOM) * (1 - share / top)
        points = " ".join(
            f"{WIDTH * bin_ / BINS:.1f},{height:.1f} {WIDTH * (bin_ + 1) / BINS:.1f},{height:.1f}"
            for bin_, height in enumerate(heights)
        )
        at = WIDTH * (mean - edges[0]) / (edges[-1] - edges[0])
        drawn.append(f"<polyline points='{points}' fill=none stroke='{colour}' stroke-width=2 />")
        drawn.append(f"<line x1={at:.1f} x2={at:.1f} y1=0 y2={HEIGHT - BOTTOM} stroke='{colour}' stroke-dasharray='4 3' />")
        legend.append(f"<li style='color:{colour}'>{safe(name)}, mean {mean:.3f} of {len(groups[name]):,} stories")
    ticks = "".join(
        f"<text x={WIDTH * share:.0f} y={HEIGHT - 6} text-anchor={anchor}>{edges[0] + share * (edges[-1] - edges[0]):.2g}</text>"
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width={WIDTH} role=img>{''.join(drawn)}{ticks}</svg><ul>{''.join(legend)}</ul>"

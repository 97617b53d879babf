"""The HTML page of `report=karma`: a bar of shares, a table of correlations, a recommendation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rfr.report.evaluation_page import STYLE, safe

COLOURS = ("#853", "#c96", "#db8", "#9ab", "#79a", "#a8a", "#ccc", "#e8e4dc")
BAR_PX = 900  # pixels
ON_SHARES = (
    "What comes first is counted first: what the length adds is what delay, head start and hour do not tell already. The rest "
    "holds what a reward is after, and luck."
)
ON_CORRELATIONS = (
    "Spearman's rank correlation with what is no merit of a story: the mean within threads, and over all replies in brackets. "
    "The closer to 0 the better."
)


def karma_page(report: Mapping[str, Any]) -> str:
    """The page as a string."""
    reasons = "".join(f"<li>{safe(reason)}" for reason in report["recommended"]["reasons"])
    refused = "".join(f"<li>{safe(name)}: {safe(reason)}" for name, reason in report["unavailable_rewards"].items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>rfr: what karma is made of</title><style>{STYLE}</style>"
        f"<h1>What karma is made of</h1><p>{report['stories']:,} stories in {report['threads']:,} threads.</p>"
        f"<ul class=verdict><li>For this corpus: <b>reward={safe(report['recommended']['reward'])}</b>{reasons}</ul>"
        f"<h2>Shares of the variance of log karma</h2>{_bar(report['variance_shares'])}"
        f"<p>{ON_SHARES}</p><h2>What each reward goes with</h2><p>{ON_CORRELATIONS}</p>{_table(report['correlations'])}"
        f"{f'<h2>Rewards that this corpus lacks the facts for</h2><ul>{refused}</ul>' if refused else ''}</html>"
    )


def _bar(shares: Mapping[str, float | None]) -> str:
    left, parts, rows = 0.0, [], []
    for colour, (name, share) in zip(COLOURS, shares.items(), strict=True):
        width = BAR_PX * (share or 0.0)
        parts.append(f"<rect x={left:.1f} width={width:.1f} height=28 fill='{colour}'><title>{safe(name)}</title></rect>")
        left += width
        shown = "n/a: the corpus does not tell" if share is None else f"{share:.1%}"
        swatch = f"<svg width=12 height=12><rect width=12 height=12 fill='{colour}' /></svg>"
        rows.append(f"<tr><td>{swatch}{safe(name)}<td class=number>{shown}</tr>")
    return f"<svg viewBox='0 0 {BAR_PX} 28' width=100%>{''.join(parts)}</svg><table>{''.join(rows)}</table>"


def _table(rows: list[dict[str, Any]]) -> str:
    by_reward: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_reward.setdefault(row["reward"], {})[row["confounder"]] = row
    names = list(dict.fromkeys(row["confounder"] for row in rows))
    head = "".join(f"<th>{safe(name)}" for name in names)
    body = "".join(
        f"<tr><td>{safe(reward)}{''.join(_cell(cells[name]) for name in names)}</tr>" for reward, cells in by_reward.items()
    )
    return f"<table><thead><tr><th>reward{head}</tr></thead>{body}</table>"


def _cell(row: Mapping[str, Any]) -> str:
    """Within threads, and over all in brackets; the stronger, the darker."""
    within, over_all = ("" if row[key] is None else f"{row[key]:+.2f}" for key in ("within", "over_all"))
    strength = abs(row["within"] if row["within"] is not None else row["over_all"] or 0.0)
    return f"<td class=number style='background: rgba(204, 153, 102, {strength:.2f})'>{within or '–'} ({over_all or '–'})"

"""The HTML page of `report=karma`: the verdict, what text tells of each reward, what karma is made of, what each reward goes
with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rfr.report.html import NONE, interval_plot, page, safe, table, verdict, with_interval
from rfr.report.karma_findings import karma_findings
from rfr.report.report_files import HEAD

COLOURS = ("#853", "#c96", "#db8", "#9ab", "#79a", "#a8a", "#ccc", "#e8e4dc")
BAR_PX = 900  # pixels
ON_TEXT = (
    "Spearman's rank correlation, within a thread, of each reward with what a light text model (TF-IDF and ridge "
    "regression) predicts from the story, in threads that it has not seen. Luck can't be read from a text; length and the "
    "time of posting can, so these were taken out. If what is left is merit, the reward that text predicts best holds the most "
    "merit. Rewards that order replies alike stand in one row. Intervals are 95 %, over threads; the last column is the paired "
    "difference."
)
REWARDS = {
    "karma": "votes as they stand",
    "log_karma": "log of the votes",
    "thread_rank": "rank within the thread",
    "thread_zscore": "log karma in standard deviations of the thread",
    "adjusted_rank": "rank within the thread, less as much of the time of posting as makes the two uncorrelated",
    "residual": "log karma less what trees predict of it from delay, crowd, length and hour",
    "tiers": "adjusted_rank in three steps: bad, ok or good",
}
ON_QUALITY = (
    "Stories of the demo have a true quality, which no reward sees. The rank correlation of each reward with it, within "
    "threads: the more, the better. The ceiling is a reward that knows how karma comes about."
)
ON_SHARES = "What comes first is counted first: what the length adds is what delay, head start and hour do not tell already."
CAUSES = {
    "thread": "how many came to read the post: the differences between threads",
    "delay": "how long after the post the reply came: early replies meet more readers",
    "head start (herding)": "who came before whom: readers see, and vote for, what has votes already",
    "hour of the day": "when people are awake",
    "length": "longer stories get other votes than short ones",
    "vote fuzzing": "Reddit alters the score that it shows; where scores were read twice, this is what they differ by",
    "counting noise": "a few votes more or less, by chance: what Poisson counts of this size vary by",
    "the rest (quality, taste, luck)": "quality, taste and luck together, which karma alone can't tell apart",
}
ON_CORRELATIONS = (
    "Spearman's rank correlation of each reward with what is no merit of a story: the mean within threads, and over all "
    "replies in brackets. The closer to 0 the better. Within a thread hour and age of the score mostly follow the delay. "
    "A dash: it does not vary within threads."
)


def karma_page(report: Mapping[str, Any]) -> str:
    """The page as a string."""
    refused = "".join(f"<li>{safe(name)}: {safe(reason)}" for name, reason in report["unavailable_rewards"].items())
    body = (
        f"{verdict(karma_findings(report))}<p>{report['stories']:,} stories in {report['threads']:,} threads.</p>"
        f"{_text(report['text'])}{_quality(report.get('true_quality'))}{_shares(report['variance_shares'])}"
        f"{_correlations(report['correlations'])}"
        f"{f'<h2>Rewards that this corpus lacks the facts for</h2><ul>{refused}</ul>' if refused else ''}"
    )
    return page("Is karma a reward here?", report[HEAD], body)


def _text(text: Mapping[str, Any] | None) -> str:
    if text is None:
        return ""
    top = 1.2 * max(row["high"] or row["correlation"] for row in text["orderings"])
    rows = [
        [
            safe(", ".join(row["rewards"])),
            interval_plot(row["correlation"], row["low"], row["high"], ends=(min(0.0, -0.1 * top), max(top, 0.1)), mark=0.0),
            with_interval(row["correlation"], row["low"], row["high"]),
            with_interval(row["behind"], row["behind_low"], row["behind_high"]) if "behind" in row else "the best",
        ]
        for row in text["orderings"]
    ]
    head = ["reward", "", "correlation", "less than the best by"]
    shown = [name for row in text["orderings"] for name in row["rewards"] if name in REWARDS]
    what = "".join(f"<dt>{safe(name)}<dd>{safe(REWARDS[name])}" for name in shown)
    title = "<h2>What text tells of each reward</h2>"
    return f"{title}<p class=soft>{ON_TEXT}</p>{table(head, rows, best=0)}<dl class=about>{what}</dl>"


def _quality(rows: list[dict[str, Any]] | None) -> str:
    if rows is None:
        return ""
    ranked = sorted((row for row in rows if row["within"] is not None), key=lambda row: -row["within"])
    cells = [
        [safe(row["reward"]), interval_plot(row["within"], row["low"], row["high"], mark=0.0),
         with_interval(row["within"], row["low"], row["high"])]
        for row in ranked
    ]  # fmt: skip
    head = ["reward", "", "correlation"]
    return f"<h2>How much of the true quality each reward recovers</h2><p class=soft>{ON_QUALITY}</p>{table(head, cells)}"


def _shares(shares: Mapping[str, float | None]) -> str:
    if not shares:
        return ""
    left, parts, rows = 0.0, [], []
    for colour, (name, share) in zip(COLOURS, shares.items(), strict=True):
        width = BAR_PX * (share or 0.0)
        parts.append(f"<rect x={left:.1f} width={width:.1f} height=28 fill='{colour}'><title>{safe(name)}</title></rect>")
        left += width
        shown = "not known here" if share is None else f"{share:.1%}"
        swatch = f"<svg width=12 height=12><rect width=12 height=12 fill='{colour}' /></svg> "
        rows.append([f"{swatch}{safe(name)}", shown, safe(CAUSES[name])])
    bar = f"<svg viewBox='0 0 {BAR_PX} 28' width=100%>{''.join(parts)}</svg>"
    title = "<h2>What log karma is made of: shares of its variance</h2>"
    return f"{title}{bar}{table(['cause', 'share', 'what it is'], rows)}<p class=soft>{ON_SHARES}</p>"


def _correlations(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    by_reward: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_reward.setdefault(row["reward"], {})[row["confounder"]] = row
    known = (row["confounder"] for row in rows if row["within"] is not None or row["over_all"] is not None)
    names = list(dict.fromkeys(known))
    cells = [[safe(name), *(_cell(of_reward[of]) for of in names)] for name, of_reward in by_reward.items()]
    return f"<h2>What each reward goes with</h2><p class=soft>{ON_CORRELATIONS}</p>{table(['reward', *names], cells)}"


def _cell(row: Mapping[str, Any]) -> str:
    """Within threads, with its interval, and over all in brackets; the stronger, the darker."""
    if row["within"] is None and row["over_all"] is None:
        return NONE
    within = NONE if row["within"] is None else f"{row['within']:+.2f}"
    spread = "" if row["within_low"] is None else f"<br><small>({row['within_low']:+.2f} to {row['within_high']:+.2f})</small>"
    over_all = NONE if row["over_all"] is None else f"{row['over_all']:+.2f}"
    strength = abs(row["within"] if row["within"] is not None else row["over_all"] or 0.0)
    return f"<span style='background: rgba(204, 153, 102, {strength:.2f})'>{within}</span> [{over_all}]{spread}"

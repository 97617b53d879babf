"""The HTML page of `report=chain`: what was found, the rounds as a picture, figures of all policies, stories side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

from rfr.report.chain_findings import WORDS, Report, chain_findings, measure_of
from rfr.report.html import NONE, page, safe, table, verdict, with_interval
from rfr.report.report_files import HEAD
from rfr.report.round_plot import Point, round_plot

ON_POLICIES = (
    "What each policy writes on the same held-out prompts, with the same random numbers. The gain is over the policy that the "
    "chain begins with, paired by prompts. Intervals are 95 %, over prompts. KL is the divergence from that policy in nats a "
    "story, known of stories drawn at temperature 1 and top-p 1."
)
ON_ROUNDS = (
    "What each agent writes on held-out prompts before its first round and after each. These stories are fewer than those above, "
    "and drawn as the rounds are."
)
# Columns: where they stand, what they are called, how they are written.
COLUMNS = (
    ("score", "judge's score", "+.3f"),
    ("watch", "gold's score", "+.3f"),
    ("kl", "KL", ".2f"),
    ("length", "tokens", ".0f"),
    ("cut_off", "cut off", ".1%"),
    ("distinct_3", "distinct 3-grams", ".1%"),
)

Stories = Any  # RoundStories, whose room this one does not know: prompts, texts and figures by name


def chain_page(report: Report, stories: Mapping[str, Stories], shown: int) -> tuple[str, str | None]:
    """The page and its picture, an SVG; the picture is None where no policy has rounds.

    Args:
        stories: of each policy, those on one prompt one after the other.
        shown: how many prompts' stories are shown.
    """
    picture = _picture(report)
    tables = "".join(
        f"<h3>Temperature {temperature:g}</h3>{_table(rows, measure_of(report), report['start'])}"
        for temperature, rows in _by_temperature(report)
    )
    body = (
        f"{verdict(chain_findings(report))}{'' if picture is None else f'<figure>{picture}</figure>'}"
        f"<h2>The policies</h2><p class=soft>{ON_POLICIES}</p>{tables}{_rounds(report)}"
        f"<h2>Stories they wrote</h2>{''.join(_side_by_side(stories, shown))}"
    )
    return page("From karma to an agent", report[HEAD], body), picture


def _picture(report: Report) -> str | None:
    if not report["rounds"]:
        return None
    measure = measure_of(report)
    runs: dict[str, list[Point]] = {}
    for row in report["rounds"]:
        if measure in row:
            point = Point(row["round"], row[measure], row[f"{measure}_low"], row[f"{measure}_high"])
            runs.setdefault(row["run"], []).append(point)
    drawn_at = {row["temperature"] for row in report["rounds"]}
    levels = {
        row["policy"]: row[measure]
        for row in report["policies"]
        if row["temperature"] in drawn_at and str(Path(row["policy"]).parent) not in runs
    }
    return round_plot(f"{WORDS[measure]} on held-out prompts", runs, levels) if runs else None


def _by_temperature(report: Report) -> Iterator[tuple[float, list[Mapping[str, Any]]]]:
    for temperature in dict.fromkeys(row["temperature"] for row in report["policies"]):
        yield temperature, [row for row in report["policies"] if row["temperature"] == temperature]


def _table(rows: SequenceOf[Mapping[str, Any]], measure: str, start: str) -> str:
    shown = [column for column in COLUMNS if column[0] != measure and any(column[0] in row for row in rows)]
    cells = []
    for row in rows:
        gain = row.get(f"{measure}_gain")
        of_gain = [NONE, NONE] if gain is None else [
            with_interval(gain["gain"], gain["low"], gain["high"], "+.3f"),
            with_interval(gain["length_controlled"], gain["length_controlled_low"], gain["length_controlled_high"], "+.3f"),
        ]  # fmt: skip
        cells.append(
            [
                safe(row["policy"]),
                _value(row, measure, measure, ".3f"),
                *of_gain,
                *(_value(row, measure, *_of(one)) for one in shown),
            ]
        )
    head = ["policy", WORDS[measure], "gain", "gain, lengths being equal", *(name for _, name, _ in shown)]
    return table(head, cells, best=[row["policy"] for row in rows].index(start))


def _path(name: str) -> str:
    """A folder, which may be broken behind its slashes."""
    return safe(name).replace("/", "/<wbr>")


def _of(column: tuple[str, str, str]) -> tuple[str, str]:
    return column[0], column[2]


def _value(row: Mapping[str, Any], measure: str, key: str, form: str) -> str:
    """A figure; the one that policies are compared by has its interval, which would fill the page in every column."""
    if key not in row:
        return NONE
    if key == measure:
        return with_interval(row[key], row[f"{key}_low"], row[f"{key}_high"], form)
    if f"{key}_error" in row:
        return f"{row[key]:{form}} <small>(± {2 * row[f'{key}_error']:{form}})</small>"
    return f"{row[key]:{form}}"


def _rounds(report: Report) -> str:
    if not report["rounds"]:
        return ""
    measure, tables = measure_of(report), []
    for run in dict.fromkeys(row["run"] for row in report["rounds"]):
        rows = [row for row in report["rounds"] if row["run"] == run]
        shown = [column for column in COLUMNS if column[0] != measure and any(column[0] in row for row in rows)]
        head = ["after round", WORDS[measure], *(name for _, name, _ in shown)]
        cells = [
            [str(row["round"]), _value(row, measure, measure, ".3f"), *(_value(row, measure, *_of(one)) for one in shown)]
            for row in rows
        ]
        tables.append(f"<h3>{safe(run)}</h3>{table(head, cells)}")
    return f"<h2>Round by round</h2><p class=soft>{ON_ROUNDS}</p>{''.join(tables)}"


def _side_by_side(stories: Mapping[str, Stories], shown: int) -> Iterator[str]:
    """By prompt, the first story of each policy."""
    prompts = next(iter(stories.values())).prompts
    for prompt in list(dict.fromkeys(prompts))[:shown]:
        index = prompts.index(prompt)
        articles = "".join(_article(name, of_policy, index) for name, of_policy in stories.items())
        yield f"<h3>{safe(prompt)}</h3><div class=stories>{articles}</div>"


def _article(name: str, stories: Stories, index: int) -> str:
    scores = ", ".join(f"{WORDS[measure]} {getattr(stories, measure)[index]:.2f}" for measure in WORDS
                       if getattr(stories, measure)[index] == getattr(stories, measure)[index])  # fmt: skip
    return f"<article><h4>{safe(name)}: {scores}</h4><p>{safe(stories.texts[index])}</p></article>"


def summary_rows(report: Report) -> Iterator[tuple[float, list[dict[str, str]]]]:
    """For the terminal: of each temperature, a row per policy."""
    measure = measure_of(report)
    for temperature, rows in _by_temperature(report):
        yield (
            temperature,
            [
                {"policy": row["policy"], **_judged(row, measure), "gain": _gain(row, measure), **_figures(row, measure)}
                for row in rows
            ],
        )


def round_rows(report: Report) -> list[dict[str, str]]:
    """For the terminal: a row per run and round."""
    measure = measure_of(report)
    return [
        {"run": row["run"], "after round": str(row["round"]), **_judged(row, measure), **_figures(row, measure)}
        for row in report["rounds"]
    ]


def _judged(row: Mapping[str, Any], measure: str) -> dict[str, str]:
    if measure not in row:
        return {}
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    return {f"{WORDS[measure]} [95 %]": f"{row[measure]:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")}


def _gain(row: Mapping[str, Any], measure: str) -> str:
    """Empty for the policy that the chain begins with."""
    if (gain := row.get(f"{measure}_gain")) is None:
        return ""
    return f"{gain['gain']:+.3f}" + ("" if gain["low"] is None else f" [{gain['low']:+.3f}, {gain['high']:+.3f}]")


def _figures(row: Mapping[str, Any], measure: str) -> dict[str, str]:
    return {name: f"{row[key]:{form}}" if key in row else "" for key, name, form in COLUMNS if key != measure}

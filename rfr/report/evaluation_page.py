"""The HTML page of `report=policy`: what was found, figures of all policies side by side, and their stories, shown as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any

from rfr.report.findings import JUDGE, JUDGED, SCORES, findings, judge_is_quoted
from rfr.report.histogram import histogram
from rfr.report.html import NONE, interval_plot, page, safe, table, verdict, with_interval

ON_PAIRS = (
    "Two held-out replies to one post, the one with so many times the other's karma. How often does each score put that one "
    "first? What knows nothing but length, time or the story without its prompt stands beneath the policy. Intervals are 95 %, "
    "over threads; the dashed line is a coin."
)
ON_REWARDS = (
    "Rewards are made of karma: the share of these pairs that each orders as karma does. 100 % is no merit: less shows how much "
    "the reward's adjustment changes."
)
REWARD, EARLIER = "reward ", "earlier alone"  # what rows of rewards begin with; the row of the time of posting
PEOPLE = "people, on the same prompts"
# Figures in the order of the page: where they stand in the evaluation, what they are called, and how they are written.
FIGURES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("threads",), "held-out threads", ",d"),
    (("held_out_stories",), "held-out stories", ",d"),
    (("nll_per_token",), "negative log-likelihood of held-out stories, nats per token", ".3f"),
    (("perplexity_per_token",), "perplexity of held-out stories, per token", ".2f"),
    (("perplexity_per_word",), "perplexity of held-out stories, per word", ".1f"),
    (("nll_by_karma", "top"), "nats per token: the quarter of each thread that readers liked best", ".3f"),
    (("nll_by_karma", "bottom"), "nats per token: the quarter that they liked least", ".3f"),
    (("prompt_ranking", "accuracy"), "stories whose own prompt is the likeliest among others'", ".1%"),
    (("prompt_ranking", "chance"), "the same by chance", ".1%"),
    (("stories",), "stories written", ",d"),
    (("quality",), "true quality of the stories written, from 0 to 1", ".3f"),
    ((JUDGED,), "the reward model's score of the stories written", "+.2f"),
    (("copying", "longest_median_tokens"), "longest run of tokens copied from a training story, median", ".0f"),
    (("copying", "longest_tokens"), "longest run of tokens copied, the most", ".0f"),
    (("copying", "share_of_story_median"), "that run's share of the story, median", ".1%"),
    (("diversity", "distinct_1"), "different words, of all words", ".1%"),
    (("diversity", "distinct_2"), "different pairs of words, of all pairs", ".1%"),
    (("diversity", "self_bleu"), "likeness to one another (self-BLEU)", ".2f"),
    (("diversity", "repetition"), "runs of four words that repeat one of the same story", ".1%"),
)

Evaluation = Mapping[str, Any]
Stories = SequenceOf[Mapping[str, Any]]


def evaluation_page(evaluation: Evaluation, stories: SequenceOf[Stories], shown: int, about: Mapping[str, Any]) -> str:
    """The page as a string.

    Args:
        stories: of the policy, and of each other policy beside it, in the order of `others`.
        shown: how many prompts' stories are shown.
        about: what the page's head says.
    """
    policies = [evaluation, *evaluation.get("others", ())]
    refused = "".join(f"<li>{safe(name)}: {safe(reason)}" for name, reason in evaluation.get("unavailable_rewards", {}).items())
    body = (
        f"{verdict(findings(evaluation))}<h2>Figures</h2>{_figures(evaluation, policies)}{_gains(evaluation)}"
        f"{_distributions(evaluation, policies, stories)}"
        f"<h2>Does it rank replies as karma does?</h2><p class=soft>{ON_PAIRS}</p>"
        f"{''.join(_accuracies(evaluation['pair_accuracy'], ratio) for ratio in _values(evaluation['pair_accuracy'], 'ratio'))}"
        f"{f'<h2>Rewards that this corpus lacks the facts for</h2><ul>{refused}</ul>' if refused else ''}"
        f"<h2>Stories they wrote</h2>{_side_by_side(policies, stories, shown)}"
    )
    return page("What the policy learned", about, body)


def _figures(evaluation: Evaluation, policies: SequenceOf[Evaluation]) -> str:
    """One column per policy, and one for what people wrote."""
    quoted, people = judge_is_quoted(evaluation), {"copying", "diversity", "quality"}
    rows = []
    for keys, name, form in FIGURES:
        if keys[0] == JUDGED and not quoted:
            continue
        cells = [_figure(policy, keys, form) for policy in policies]
        of_people = _figure(evaluation, (f"{keys[0]}_of_people", *keys[1:]), form) if keys[0] in people else NONE
        if any(cell != NONE for cell in cells):
            rows.append([safe(name), *cells, of_people])
    return table(["", *(policy["model"] for policy in policies), PEOPLE], rows)


def _figure(evaluation: Evaluation, keys: tuple[str, ...], form: str) -> str:
    node: Any = evaluation
    for key in keys[:-1]:
        node = node.get(key) or {}
    ends = ("low", "high") if keys[-1] == "accuracy" else (f"{keys[-1]}_low", f"{keys[-1]}_high")
    low, high = (node.get(end) for end in ends)
    return with_interval(node.get(keys[-1]), low, high, form)


def _gains(evaluation: Evaluation) -> str:
    quoted = judge_is_quoted(evaluation)
    rows = [
        [safe(f"{SCORES[gain['score']]}, over {gain['over']}"), with_interval(gain["gain"], gain["low"], gain["high"], "+.3f"),
         with_interval(gain["length_controlled"], gain["length_controlled_low"], gain["length_controlled_high"], "+.3f"),
         f"{gain['prompts']:,}"]
        for gain in evaluation.get("gains", ()) if quoted or gain["score"] != JUDGED
    ]  # fmt: skip
    if not rows:
        return ""
    return (
        f"<h2>What it gains on the same prompts</h2>{table(['', 'gain', 'gain between stories of one length', 'prompts'], rows)}"
    )


def _distributions(evaluation: Evaluation, policies: SequenceOf[Evaluation], stories: SequenceOf[Stories]) -> str:
    """Of each score of the written stories, a histogram with a colour per policy."""
    names, plots = [policy["model"] for policy in policies], []
    for key, name in SCORES.items():
        if (key == JUDGED and not judge_is_quoted(evaluation)) or not all(own and key in own[0] for own in stories):
            continue
        values = {model: [story[key] for story in own] for model, own in zip(names, stories, strict=True)}
        plots.append(f"<h3>{safe(name)} of the stories written</h3>{histogram(values)}")
    return "".join(plots)


def _accuracies(rows: SequenceOf[Mapping[str, Any]], ratio: Any) -> str:
    mine = [row for row in rows if row["ratio"] == ratio]
    conditions = _values(mine, "condition")
    by_score: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in mine:
        by_score.setdefault(row["score"], {})[row["condition"]] = row
    counts = {row["condition"]: f"{row['pairs']:,} pairs" for row in reversed(mine) if row["pairs"]}
    head = ["", *(f"{condition}, {counts.get(condition, 'no such pairs')}" for condition in conditions)]
    body = {
        score: [safe(score.removeprefix(REWARD)), *(_accuracy(cells[condition]) for condition in conditions)]
        for score, cells in by_score.items()
    }
    rewards = [cells for score, cells in body.items() if _is_reward(score)]
    return (
        f"<h3>One has {safe(ratio)} times the other's karma, or more</h3>"
        f"{table(head, [cells for score, cells in body.items() if not _is_reward(score)])}"
        f"{f'<p class=soft>{ON_REWARDS}</p>{table(head, rewards)}' if rewards else ''}"
    )


def _is_reward(score: str) -> bool:
    """Whether it is made of karma."""
    return score.startswith(REWARD) and score != JUDGE


def _accuracy(row: Mapping[str, Any]) -> str:
    if not row["pairs"]:
        return NONE
    if row["accuracy"] in (0, 1) and (_is_reward(row["score"]) or row["score"] == EARLIER):
        return f"{row['accuracy']:.0%} <small>by construction</small>"
    if _is_reward(row["score"]):
        return f"{row['accuracy']:.0%}"
    shown = with_interval(row["accuracy"], row["low"], row["high"], ".0%")
    return f"{interval_plot(row['accuracy'], row['low'], row['high'])}<br>{shown}"


def _side_by_side(policies: SequenceOf[Evaluation], stories: SequenceOf[Stories], shown: int) -> str:
    """By prompt, the story of each policy."""
    return (
        "".join(_of_prompt(policies, *told) for told in zip(*(own[:shown] for own in stories), strict=False))
        or "<p>none asked for</p>"
    )


def _of_prompt(policies: SequenceOf[Evaluation], *told: Mapping[str, Any]) -> str:
    articles = "".join(_article(policy["model"], story) for policy, story in zip(policies, told, strict=True))
    return f"<h3>{safe(told[0]['prompt'])}</h3><div class=stories>{articles}</div>"


def _article(model: str, story: Mapping[str, Any]) -> str:
    score = f", true quality {story['quality']:.2f}" if "quality" in story else ""
    return f"<article><h4>{safe(model)}{score}</h4><p>{safe(story['response'])}</p></article>"


def _values(rows: SequenceOf[Mapping[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def summary_rows(evaluation: Evaluation) -> Iterator[tuple[Any, list[dict[str, str]]]]:
    """For the terminal: of each ratio, a row per score with a column per condition."""
    for ratio in _values(evaluation["pair_accuracy"], "ratio"):
        table_rows: dict[str, dict[str, str]] = {}
        for row in (row for row in evaluation["pair_accuracy"] if row["ratio"] == ratio):
            table_rows.setdefault(row["score"], {"score": row["score"]})[row["condition"]] = _in_words(row)
        yield ratio, list(table_rows.values())


def _in_words(row: Mapping[str, Any]) -> str:
    if not row["pairs"]:
        return "n/a"
    return f"{row['accuracy']:.3f}" + ("" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]")

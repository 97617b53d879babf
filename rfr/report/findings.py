"""Says in plain sentences what an evaluation found, and only what its figures support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rfr.report.html import as_sentence
from rfr.utils.intervals import ENOUGH_GROUPS, too_few

RATIO, MATCHED = 2, "length-matched"  # the pairs that the findings are about: they are many, and length does not rank them
POLICY, JUDGE = "log-likelihood", "reward model"  # their rows
QUALITY, JUDGED = "quality", "reward_model_score"
SCORES = {QUALITY: "true quality", JUDGED: "the reward model's score"}
# What a baseline puts first, and what it does when it is turned round: one that is wrong most of the time knows as much as one
# that is right.
DIRECTIONS = {
    "length alone": ("longer first", "shorter first"),
    "earlier alone": ("earlier first", "later first"),
    "log-likelihood without the prompt": ("likelier first", "less likely first"),
}
MUCH_LONGER, MORE_ALIKE = 2.0, 0.1  # than people's: copies, as a ratio; self-BLEU, as a difference

Evaluation = Mapping[str, Any]


def findings(evaluation: Evaluation) -> list[str]:
    """Sentences, the most important first."""
    parts = (_on_karma, _on_others, _on_baselines, _on_prompts, _on_copying, _on_variety)
    return [*_on_gains(evaluation), *_on_overlap(evaluation), *(told for part in parts if (told := part(evaluation)))]


def judge_is_quoted(evaluation: Evaluation) -> bool:
    """Whether the reward model beats a coin on held-out pairs that it has not seen."""
    row = _row(evaluation, JUDGE, "all")
    return row is not None and row["threads"] >= ENOUGH_GROUPS and row["low"] > 0.5


def _row(evaluation: Evaluation, score: str, condition: str) -> Mapping[str, Any] | None:
    wanted = {"score": score, "ratio": RATIO, "condition": condition}
    return next((row for row in evaluation["pair_accuracy"] if row["pairs"] and wanted.items() <= row.items()), None)


def _on_karma(evaluation: Evaluation) -> str:
    row = _row(evaluation, POLICY, MATCHED)
    if row is None or row["threads"] < ENOUGH_GROUPS:
        threads = 0 if row is None else row["threads"]
        why = too_few(threads, "held-out threads with pairs of like length")
        return f"Does the policy lean to what people liked? {as_sentence(why)}"
    if row["low"] > 0.5:
        meaning = "it leans to what people liked"
    elif row["high"] < 0.5:
        meaning = "it leans away from what people liked"
    else:
        meaning = "it is not shown to do better than a coin"
    return (
        f"In {row['accuracy']:.0%} of {row['pairs']:,} pairs of like length ({row['low']:.0%} to {row['high']:.0%}) the policy "
        f"finds the reply with more karma the likelier one: {meaning}."
    )


def _on_others(evaluation: Evaluation) -> str | None:
    """Whether the policy ranks replies better than the policies beside it: what it has learned beyond them."""
    names = (f"{POLICY} of {other['model']}" for other in evaluation.get("others", ()))
    rows = [row for name in names if (row := _row(evaluation, name, MATCHED)) is not None and row["threads"] >= ENOUGH_GROUPS]
    told = [
        f"{row['score'].removeprefix(f'{POLICY} of ')} ranks {row['accuracy']:.0%} of these pairs as karma does (the policy "
        f"{_better(row)}, {_points(row)})"
        for row in rows
    ]
    return f"Beside it, {', '.join(told)}." if told else None


def _better(row: Mapping[str, Any]) -> str:
    """What the paired difference shows of the policy, the row's score being another one."""
    return "is better" if row["behind_low"] > 0 else "is worse" if row["behind_high"] < 0 else "is not shown to be better"


def _points(row: Mapping[str, Any]) -> str:
    return f"{100 * row['behind']:+z.0f} points ({100 * row['behind_low']:+z.0f} to {100 * row['behind_high']:+z.0f})"


def _on_gains(evaluation: Evaluation) -> Iterator[str]:
    gains, quoted = evaluation.get("gains", ()), judge_is_quoted(evaluation)
    yield from (_on_gain(gain) for gain in gains if quoted or gain["score"] != JUDGED)
    if JUDGED in evaluation and not quoted:
        yield _on_judge(evaluation)


def _on_judge(evaluation: Evaluation) -> str:
    """Why the judge is not quoted."""
    row = _row(evaluation, JUDGE, "all")
    if row is None or row["threads"] < ENOUGH_GROUPS:
        why = too_few(0 if row is None else row["threads"], "held-out threads with pairs that it has not seen")
    else:
        why = (
            f"of {row['pairs']:,} pairs that it has not seen it ranks {row['accuracy']:.0%} as karma does "
            f"({row['low']:.0%} to {row['high']:.0%}), so it is not shown to beat a coin"
        )
    return f"The reward model's scores are not quoted: {why}."


def _on_overlap(evaluation: Evaluation) -> Iterator[str]:
    """What the judges have seen of the held-out threads."""
    for judge in evaluation.get("judges", ()):
        seen, prompts = judge["seen_prompts"], judge["prompts"]
        if seen is None:
            yield f"What the judge {judge['judge']} learned from is not known: it may have seen these threads."
        elif seen:
            has_seen = f"The judge {judge['judge']} learned from {seen} of these {prompts} prompts"
            yield f"{has_seen}: their stories are left out of its accuracy."


def _on_gain(gain: Mapping[str, Any]) -> str:
    """Lengths being equal: a longer story may score higher for its length alone."""
    score, other = SCORES[gain["score"]], gain["over"]
    low, high = gain["length_controlled_low"], gain["length_controlled_high"]
    if gain["prompts"] < ENOUGH_GROUPS:
        return f"Is {score} of its stories above that of {other}'s? {as_sentence(too_few(gain['prompts'], 'prompts'))}"
    relation = "above" if low > 0 else "below" if high < 0 else "not told from"
    return (
        f"{score[0].upper()}{score[1:]} of its stories is {relation} that of {other}'s, lengths being equal: "
        f"{gain['length_controlled']:+.3f} ({low:+.3f} to {high:+.3f}) on {gain['prompts']} prompts."
    )


def _on_baselines(evaluation: Evaluation) -> str | None:
    policy = _row(evaluation, POLICY, "all")
    named = (_row(evaluation, name, "all") for name in evaluation.get("baselines", []))
    rows = [row for row in named if row is not None and row["threads"] >= ENOUGH_GROUPS]  # few threads may have times
    if policy is None or not rows:
        return None
    best = min(rows, key=lambda row: row["behind"])
    accuracy = 1 - best["accuracy"] if best["turned"] else best["accuracy"]
    direction = DIRECTIONS[best["score"]][best["turned"]]
    return (
        f"Of all pairs it ranks {policy['accuracy']:.0%} as karma does, and the best baseline, {best['score']} ({direction}), "
        f"{accuracy:.0%}: the policy {_better(best)}, {_points(best)}."
    )


def _on_prompts(evaluation: Evaluation) -> str | None:
    ranking = evaluation.get("prompt_ranking")
    if not ranking:
        return None
    if ranking["threads"] < ENOUGH_GROUPS:
        return f"Does it read its prompt? {as_sentence(too_few(ranking['threads'], 'held-out threads'))}"
    reads = "It reads its prompt" if ranking["low"] > ranking["chance"] else "It is not shown to read its prompt"
    often, chance = f"{ranking['accuracy']:.0%} of {ranking['stories']} stories", f"{ranking['chance']:.0%}"
    return f"{reads}: of {ranking['candidates']} prompts the story's own is the likeliest for {often}, by chance for {chance}."


def _on_copying(evaluation: Evaluation) -> str | None:
    policy, people = (evaluation.get(name) for name in ("copying", "copying_of_people"))
    if not policy or not people:
        return None
    if evaluation["stories"] < ENOUGH_GROUPS:
        return f"Does it copy its training stories? {as_sentence(too_few(evaluation['stories'], 'stories'))}"
    mine, theirs = policy["longest_median_tokens"], people["longest_median_tokens"]
    copies = "It copies its training stories" if mine > MUCH_LONGER * theirs else "It is not shown to copy more than people do"
    return f"{copies}: half of its stories share {mine:.0f} tokens in a row with a training story, half of people's {theirs:.0f}."


def _on_variety(evaluation: Evaluation) -> str | None:
    policy, people = (evaluation.get(name) for name in ("diversity", "diversity_of_people"))
    if not policy or not people or evaluation["stories"] < ENOUGH_GROUPS:
        return None
    mine, theirs = policy["self_bleu"], people["self_bleu"]
    alike = "more alike than people's" if mine > theirs + MORE_ALIKE else "not shown to be more alike than people's"
    repeats = (
        f"{policy['repetition']:.0%} of its runs of four words repeat one of the same story, {people['repetition']:.0%} of theirs"
    )
    return f"Its stories are {alike} (self-BLEU {mine:.2f} against {theirs:.2f}); {repeats}."

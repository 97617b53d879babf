"""Says in plain sentences what an evaluation found, and only what its figures support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATIO, MATCHED = 2, "length-matched"  # the pairs that the findings are about: they are many, and length does not rank them
SCORES = {"quality": "true quality", "reward_model_score": "the reward model's score"}
MUCH_LONGER, MORE_ALIKE = 2.0, 0.1  # than people's: copies, as a ratio; self-BLEU, as a difference

Evaluation = Mapping[str, Any]


def findings(evaluation: Evaluation) -> list[str]:
    """Sentences, the most important first."""
    said = (part(evaluation) for part in (_on_karma, _on_baselines, _on_prompts, _on_copying, _on_variety))
    return [*map(_on_gain, evaluation.get("gains", [])), *(sentence for sentence in said if sentence)]


def _row(evaluation: Evaluation, score: str, condition: str) -> Mapping[str, Any] | None:
    wanted = {"score": score, "ratio": RATIO, "condition": condition}
    return next((row for row in evaluation["pair_accuracy"] if row["pairs"] and wanted.items() <= row.items()), None)


def _on_karma(evaluation: Evaluation) -> str | None:
    row = _row(evaluation, "log-likelihood", MATCHED)
    if row is None:
        return "No two held-out replies to one post are alike in length and apart in karma: what the policy prefers is open."
    if row["low"] > 0.5:
        meaning = "it leans to what people liked"
    elif row["high"] < 0.5:
        meaning = "it leans away from what people liked"
    else:
        meaning = "that is no more than a coin does"
    return (
        f"In {row['accuracy']:.0%} of {row['pairs']:,} pairs of like length ({row['low']:.0%} to {row['high']:.0%}) the policy "
        f"finds the reply with more karma the likelier one: {meaning}."
    )


def _on_gain(gain: Mapping[str, Any]) -> str:
    """Lengths being equal: a longer story may score higher for its length alone."""
    score, other = SCORES[gain["score"]], gain["over"]
    low, high = gain["length_controlled_low"], gain["length_controlled_high"]
    relation = "above" if low > 0 else "below" if high < 0 else "not told from"
    return (
        f"{score[0].upper()}{score[1:]} of its stories is {relation} that of {other}'s, lengths being equal: "
        f"{gain['length_controlled']:+.3f} ({low:+.3f} to {high:+.3f}) on {gain['prompts']} prompts."
    )


def _on_baselines(evaluation: Evaluation) -> str | None:
    """A baseline that is wrong most of the time knows as much as one that is right."""
    policy = _row(evaluation, "log-likelihood", "all")
    others = [row for name in evaluation.get("baselines", []) if (row := _row(evaluation, name, "all"))]
    if policy is None or not others:
        return None
    best = max(others, key=lambda row: abs(row["accuracy"] - 0.5))
    accuracy, high = max((best["accuracy"], best["high"]), (1 - best["accuracy"], 1 - best["low"]))
    does = "does better" if policy["low"] > high else "does no better"
    return f"Of all pairs it ranks {policy['accuracy']:.0%} and the best baseline, {best['score']}, {accuracy:.0%}: it {does}."


def _on_prompts(evaluation: Evaluation) -> str | None:
    ranking = evaluation.get("prompt_ranking")
    if not ranking:
        return None
    reads = "It reads its prompt" if ranking["low"] > ranking["chance"] else "It does not show that it reads its prompt"
    often, chance = f"{ranking['accuracy']:.0%} of {ranking['stories']} stories", f"{ranking['chance']:.0%}"
    return f"{reads}: of {ranking['candidates']} prompts the story's own is the likeliest for {often}, by chance for {chance}."


def _on_copying(evaluation: Evaluation) -> str | None:
    policy, people = (evaluation.get(name) for name in ("copying", "copying_of_people"))
    if not policy or not people:
        return None
    mine, theirs = policy["longest_median_tokens"], people["longest_median_tokens"]
    copies = "It copies its training stories" if mine > MUCH_LONGER * theirs else "It copies no more than people do"
    return f"{copies}: half of its stories share {mine:.0f} tokens in a row with a training story, half of people's {theirs:.0f}."


def _on_variety(evaluation: Evaluation) -> str | None:
    policy, people = (evaluation.get(name) for name in ("diversity", "diversity_of_people"))
    if not policy or not people:
        return None
    mine, theirs = policy["self_bleu"], people["self_bleu"]
    alike = "more alike than people's" if mine > theirs + MORE_ALIKE else "about as varied as people's"
    repeats = (
        f"{policy['repetition']:.0%} of its runs of four words repeat one of the same story, {people['repetition']:.0%} of theirs"
    )
    return f"Its stories are {alike} (self-BLEU {mine:.2f} against {theirs:.2f}); {repeats}."

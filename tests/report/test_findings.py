"""Each sentence of a report is said only where its figures bear it out; of too little, nothing is claimed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rfr.evaluate.pair_accuracy import accuracies
from rfr.records import Story
from rfr.report.evaluation_page import evaluation_page
from rfr.report.findings import findings, judge_is_quoted
from rfr.report.karma_findings import karma_findings

LIKELIHOOD, LENGTH = "log-likelihood", "length alone"


def _row(score: str, accuracy: float, spread: float = 0.02, condition: str = "all", **more: Any) -> dict[str, Any]:
    """A row of the table; of baselines, how far they are behind a policy that ranks 60 %."""
    turned = accuracy < 0.5
    less = 0.6 - (1 - accuracy if turned else accuracy)
    return {"score": score, "ratio": 2, "condition": condition, "accuracy": accuracy, "low": accuracy - spread,
            "high": accuracy + spread, "pairs": 900, "threads": 50, "behind": less, "behind_low": less - spread,
            "behind_high": less + spread, "turned": turned, **more}  # fmt: skip


def _said(*rows: dict[str, Any], **more: Any) -> list[str]:
    return findings({"pair_accuracy": list(rows), "baselines": [LENGTH], **more})


@pytest.mark.parametrize(("accuracy", "spread", "meaning"), [
    (0.6, 0.02, "it leans to what people liked."), (0.4, 0.02, "it leans away from what people liked."),
    (0.51, 0.02, "it is not shown to do better than a coin."), (0.6, 0.2, "it is not shown to do better than a coin."),
])  # fmt: skip
def test_a_policy_leans_where_the_interval_excludes_a_coin(accuracy: float, spread: float, meaning: str) -> None:
    assert _said(_row(LIKELIHOOD, accuracy, spread, "length-matched"))[0].endswith(meaning)


def test_two_held_out_threads_tell_nothing() -> None:
    """It said: "100 % of 6 pairs (100 % to 100 %): it leans to what people liked"."""
    stories = [
        Story(thread_id=thread, reply_id=f"{thread}{karma}", prompt="p", response="w " * 60, score=karma, created_utc=0.0)
        for thread in "ab" for karma in (1, 4, 20)
    ]  # fmt: skip
    rows = accuracies(stories, {LIKELIHOOD: np.array([story.score for story in stories], dtype=np.float64)}, LIKELIHOOD)
    row = next(row for row in rows if row["condition"] == "length-matched" and row["ratio"] == 2)
    assert (row["accuracy"], row["pairs"], row["low"], row["high"]) == (1.0, 6, None, None), "no interval, so none of zero width"
    (said,) = findings({"pair_accuracy": rows, "baselines": []})
    assert said.endswith("Too few to tell: 2 held-out threads with pairs of like length, 20 are needed.")
    assert "%" not in said
    page = evaluation_page({"model": "m", "pair_accuracy": rows}, [[]], 8, {})
    assert "100% to 100%" not in page
    assert "leans" not in page.replace("lean to what people liked?", "")


def test_without_a_pair_nothing_is_told_either() -> None:
    assert findings({"pair_accuracy": []})[0].endswith(
        "Too few to tell: 0 held-out threads with pairs of like length, 20 are needed."
    )


def _gain(score: str, low: float, high: float, prompts: int = 40) -> dict[str, Any]:
    return {"length_controlled": (low + high) / 2, "length_controlled_low": low, "length_controlled_high": high,
            "score": score, "over": "b", "gain": 9.0, "low": 8.0, "high": 10.0, "prompts": prompts}  # fmt: skip


def test_a_judge_that_is_a_coin_is_not_quoted() -> None:
    """It said "+5.73" by a judge that was right on half of the held-out pairs."""
    evaluation = {
        "model": "m", "pair_accuracy": [_row("reward model", 0.5, 0.08)], "baselines": [], "reward_model_score": 5.73,
        "reward_model_score_low": 5.0, "reward_model_score_high": 6.0, "stories": 64,
        "gains": [_gain("reward_model_score", 5.5, 5.96)],
    }  # fmt: skip
    assert not judge_is_quoted(evaluation)
    said = findings(evaluation)
    assert said[0] == (
        "The reward model's scores are not quoted: of 900 pairs that it has not seen it ranks 50% as karma does (42% to 58%), "
        "so it is not shown to beat a coin."
    )
    page = evaluation_page(evaluation, [[{"prompt": "p", "response": "r", "reward_model_score": 5.73}]], 8, {})
    assert not any("5.73" in text for text in (*said, page))
    few = {**evaluation, "pair_accuracy": [_row("reward model", 0.9, 0.02, threads=4)]}
    assert "too few to tell: 4 held-out threads" in findings(few)[0]
    good = {**evaluation, "pair_accuracy": [_row("reward model", 0.6, 0.08)]}
    assert findings(good)[0].startswith(
        "The reward model's score of its stories is above that of b's, lengths being equal: +5.730"
    )


@pytest.mark.parametrize(("low", "high", "position"), [(0.1, 0.3, "above"), (-0.3, -0.1, "below"), (-0.1, 0.1, "not told from")])
def test_the_verdict_on_another_policy_is_that_of_like_lengths(low: float, high: float, position: str) -> None:
    said = _said(gains=[_gain("quality", low, high)])[0]
    assert said.startswith(f"True quality of its stories is {position} that of b's, lengths being equal: ")
    assert said.endswith(f"({low:+.3f} to {high:+.3f}) on 40 prompts.")
    assert "Too few to tell: 7 prompts, 20 are needed." in _said(gains=[_gain("quality", low, high, prompts=7)])[0]


def test_a_baseline_is_named_with_its_direction_and_compared_in_pairs() -> None:
    """It said "88 % and length alone 68 %: it does no better" where the table had 0.324 for length."""
    generator, stories, scores = np.random.default_rng(0), [], []
    for thread in range(60):
        for karma in (1, 5, 30, 200):
            shorter = generator.random() < 0.75
            length = int(80 - 10 * np.log(karma) * (1 if shorter else -1))
            stories.append(
                Story(thread_id=str(thread), reply_id=f"{thread}-{karma}", prompt="p", response="w " * length, score=karma)
            )
            scores.append(np.log(karma) + generator.normal() * 0.9)
    lengths = np.array([len(story.response.split()) for story in stories], dtype=np.float64)
    rows = accuracies(stories, {LIKELIHOOD: np.array(scores), LENGTH: lengths}, LIKELIHOOD)
    accuracy_of = {
        str(row["score"]): float(row["accuracy"] or 0) for row in rows if row["condition"] == "all" and row["ratio"] == 2
    }
    right = 1 - accuracy_of[LENGTH]
    assert right > 0.55
    assert accuracy_of[LIKELIHOOD] > right + 0.05
    said = next(line for line in findings({"pair_accuracy": rows, "baselines": [LENGTH]}) if line.startswith("Of all pairs"))
    assert "length alone (shorter first)" in said
    assert f"{right:.0%}: the policy is better, +" in said


@pytest.mark.parametrize(("baseline", "words"), [
    (0.5, "50%: the policy is better, +10 points (+8 to +12)."),
    (0.59, "59%: the policy is not shown to be better, +1 points (-1 to +3)."),
    (0.3, "length alone (shorter first), 70%: the policy is worse, -10 points (-12 to -8)."),
    (0.7, "length alone (longer first), 70%: the policy is worse, -10 points (-12 to -8)."),
])  # fmt: skip
def test_better_is_said_of_the_paired_difference(baseline: float, words: str) -> None:
    assert _said(_row(LIKELIHOOD, 0.6), _row(LENGTH, baseline))[1].endswith(words)


def test_a_baseline_that_few_threads_know_is_not_compared() -> None:
    known_in_three = {
        **_row("earlier alone", 0.7),
        "threads": 3,
        "low": None,
        "high": None,
        "behind_low": None,
        "behind_high": None,
    }
    said = findings(
        {"pair_accuracy": [_row(LIKELIHOOD, 0.6), known_in_three, _row(LENGTH, 0.5)], "baselines": ["earlier alone", LENGTH]}
    )
    assert "the best baseline, length alone (longer first), 50%" in said[1]
    assert not any(line.startswith("Of all pairs") for line in findings(
        {"pair_accuracy": [_row(LIKELIHOOD, 0.6), known_in_three], "baselines": ["earlier alone"]}
    ))  # fmt: skip


def test_of_few_threads_or_stories_nothing_is_said_of_prompts_copies_and_variety() -> None:
    ranking = {"accuracy": 0.9, "low": 0.8, "high": 0.95, "chance": 0.1, "stories": 30, "threads": 5, "candidates": 10}
    copies, varied = {"longest_median_tokens": 9.0}, {"self_bleu": 0.5, "repetition": 0.1}
    written = {"copying": copies, "copying_of_people": copies, "diversity": varied, "diversity_of_people": varied}
    said = _said(prompt_ranking=ranking, stories=8, **written)
    assert "Does it read its prompt? Too few to tell: 5 held-out threads, 20 are needed." in said
    assert "Does it copy its training stories? Too few to tell: 8 stories, 20 are needed." in said
    assert not any("alike" in line for line in said)
    many = _said(prompt_ranking={**ranking, "threads": 30}, stories=64, **written)
    assert any(line.startswith("It reads its prompt: ") for line in many)
    assert any("is not shown to copy more than people do" in line for line in many)
    unread = _said(prompt_ranking={**ranking, "threads": 30, "low": 0.05})
    assert any(line.startswith("It is not shown to read its prompt") for line in unread)


def test_a_policy_is_compared_with_those_beside_it() -> None:
    matched = {"condition": "length-matched"}
    mine = _row(LIKELIHOOD, 0.6) | matched
    beside = {"others": [{"model": "runs/bc/model"}]}
    same = _row(f"{LIKELIHOOD} of runs/bc/model", 0.6) | matched
    (said,) = [line for line in _said(mine, same, **beside) if line.startswith("Beside it")]
    assert "runs/bc/model ranks 60% of these pairs as karma does (the policy is not shown to be better, +0 points" in said
    worse = _row(f"{LIKELIHOOD} of runs/bc/model", 0.5) | matched
    assert any("the policy is better, +10 points" in line for line in _said(mine, worse, **beside))
    assert not any(line.startswith("Beside it") for line in _said(mine, same | {"threads": 5}, **beside))


def _report(low: float, threads: int = 40, reward: str | None = "residual") -> dict[str, Any]:
    best = {"rewards": ["residual"], "correlation": 0.3, "low": low, "high": 0.4}
    other = {"rewards": ["thread_rank", "karma"], "correlation": 0.27, "low": low, "high": 0.4}
    behind = {"behind": 0.03, "behind_low": 0.006, "behind_high": 0.054}
    text = {"threads": threads, "replies": 600, "orderings": [best, other | behind], "removed": {"length": 0.1}}
    return {"text": text, "recommended": {"reward": reward, "reasons": ["no difference can be told"]}}


def test_karma_is_a_reward_where_the_interval_says_so() -> None:
    said = karma_findings(_report(0.2))
    assert said[0].startswith("Karma is a reward here, as far as text can tell: ")
    assert "0.30 (0.20 to 0.40) with residual within the thread, and of 0.27 with karma as it stands" in said[0]
    assert said[2] == "Of what text tells of residual, thread_rank loses 10% of it (2% to 18%)."
    assert "length (the correlation fell by 10.0%)" in said[3]
    grown = _report(0.2)
    grown["text"]["removed"]["length"] = -0.2
    assert "length (the correlation did not fall)" in karma_findings(grown)[3]
    assert "This assumes that" in said[3]
    assert karma_findings(_report(-0.1))[0].startswith("Karma is not shown to be a reward here: ")
    assert not any("loses" in line for line in karma_findings(_report(-0.1)))
    assert karma_findings(_report(0.2, reward=None))[1] == "No difference can be told."
    (few,) = karma_findings(_report(0.2, threads=12))
    assert few == "Is karma a reward here? Too few to tell: 12 threads with two replies or more, 20 are needed."
    assert "Too few to tell: 0 threads" in karma_findings({"text": None})[0]


def test_what_a_judge_has_seen_is_told() -> None:
    judges = [
        {"judge": "runs/a/model", "seen_prompts": 12, "prompts": 43},
        {"judge": "runs/b/model", "seen_prompts": 0, "prompts": 43},
        {"judge": "else", "seen_prompts": None, "prompts": 43},
    ]
    assert _said(judges=judges)[:2] == [
        "The judge runs/a/model learned from 12 of these 43 prompts: their stories are left out of its accuracy.",
        "What the judge else learned from is not known: it may have seen these threads.",
    ]

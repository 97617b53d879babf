"""One policy against another: paired by prompts, and longer is not mistaken for better."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rfr.errors import UserError
from rfr.evaluate.paired_gain import ScoredStory, paired_gain
from tests.helpers.runs import train_small


def _stories(generator: np.random.Generator, quality: float, words: float, per_word: float = 0.0) -> list[ScoredStory]:
    """Three on each of 40 prompts, some of which are harder."""
    scored = []
    for prompt in range(40):
        for _ in range(3):
            length = int(generator.normal(words, 10))
            score = quality + per_word * length + np.sin(prompt) * 3 + generator.normal() * 0.1
            scored.append(ScoredStory(prompt=str(prompt), words=length, score=score))
    return scored


def _ends(low: float | None, high: float | None) -> tuple[float, float]:
    assert low is not None
    assert high is not None
    return low, high


def test_of_four_prompts_there_is_no_interval() -> None:
    stories = _stories(np.random.default_rng(4), 1.0, 100)[:12]
    gain = paired_gain([stories], [stories])
    assert (gain.low, gain.high, gain.length_controlled_low, gain.prompts) == (None, None, None, 4)


def test_a_gain_is_found_beneath_the_differences_of_prompts() -> None:
    generator = np.random.default_rng(0)
    gain = paired_gain([_stories(generator, 1.1, 100)], [_stories(generator, 1.0, 100)])
    low, high = _ends(gain.low, gain.high)
    assert low < 0.1 < high
    assert low > 0, "the prompts' own differences are far larger, but they are the same for both"
    assert high - low < 0.15
    assert gain.prompts == 40


def test_longer_is_not_better() -> None:
    generator = np.random.default_rng(1)
    longer, shorter = (_stories(generator, 1.0, words, per_word=0.02) for words in (130, 100))
    gain = paired_gain([longer], [shorter])
    assert gain.gain == pytest.approx(0.6, abs=0.1)
    assert abs(gain.length_controlled) < 0.1
    low, high = _ends(gain.length_controlled_low, gain.length_controlled_high)
    assert low < 0 < high
    better = paired_gain([_stories(generator, 1.3, 130, per_word=0.02)], [shorter])
    assert better.length_controlled == pytest.approx(0.3, abs=0.1)


def test_seeds_that_disagree_make_the_interval_wide() -> None:
    generator = np.random.default_rng(2)
    worse = [_stories(generator, 1.0, 100) for _ in range(4)]
    alike = paired_gain([_stories(generator, 1.2, 100) for _ in range(4)], worse)
    apart = paired_gain([_stories(generator, quality, 100) for quality in (0.6, 1.8, 0.8, 1.6)], worse)
    assert alike.gain == pytest.approx(apart.gain, abs=0.02)
    assert _ends(alike.low, alike.high)[0] > 0.1
    assert _ends(apart.low, apart.high)[0] < 0


def test_policies_are_compared_on_the_same_prompts_only() -> None:
    stories = _stories(np.random.default_rng(3), 1.0, 100)
    with pytest.raises(UserError, match="on the same prompts"):
        paired_gain([stories], [stories[:-3]])
    with pytest.raises(UserError, match="on the same prompts"):
        paired_gain([[]], [[]])


@pytest.mark.slow
def test_two_policies_side_by_side(command: Callable[..., tuple[int, str, str]], folders: list[str], tmp_path: Path) -> None:
    one, other = (train_small(folders, name, f"seed={seed}")[0] / "model" for seed, name in enumerate(("one", "other")))
    judge = train_small(folders, "judge", "objective=reward_model", "reward=residual", "reward.iterations=5")[0] / "model"
    small = ["corpus=demo", "corpus.demo.threads=40", "stories=16", "sampling.max_new_tokens=30", "ranking.stories=8",
             "preprocess.fit.context_tokens=16", "~rewards.residual"]  # fmt: skip
    code, out, err = command(
        "evaluate", f"model.weights={one}", f"against=[{other}]", f"judge={judge}", *small, *folders, f"out={tmp_path}"
    )
    assert code == 0, err
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    gains = {gain["score"]: gain for gain in evaluation["gains"] if gain["over"] == str(other)}
    (beside,) = evaluation["others"]
    assert beside["model"] == str(other)
    gained = gains["quality"]
    assert gained["low"] is None or gained["low"] <= gained["gain"] <= gained["high"]
    assert beside["quality"] == pytest.approx(evaluation["quality"] - gained["gain"], abs=0.05)
    ranked = {"log-likelihood", f"log-likelihood of {other}", "length alone", "reward model"}
    assert {row["score"] for row in evaluation["pair_accuracy"]} >= ranked
    judged = gains["reward_model_score"]
    assert judged["gain"] == pytest.approx(evaluation["reward_model_score"] - beside["reward_model_score"], abs=0.05)
    assert "too few to tell: " in out.lower(), "few threads are held out, on few prompts it wrote"
    page = (tmp_path / "report.html").read_text()
    assert "gain between stories of one length" in page
    assert page.count("<article>") == 16, "two policies side by side on 8 prompts"
    assert "The reward model&#x27;s scores are not quoted: too few to tell" in page
    assert json.loads(out.splitlines()[-1])["out"] == str(tmp_path)

"""Judges: a score depends on its story alone; rules make one score of several; what can't be averaged is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification

from rfr.data.prepare import Prepared
from rfr.demo.truth import Truth
from rfr.errors import UserError
from rfr.evaluate.judge_rules import AveragedWeights, Mean, Minimum, Spread
from rfr.evaluate.reward_model_judge import Origin, RewardModelJudge, story_scores
from rfr.evaluate.score import JudgeScore
from rfr.train.load_judge import load_judge
from tests.helpers.runs import train_small

STORIES = [("[WP] A door.", "It opened. " * times) for times in (1, 40, 3, 300, 2, 17, 90)]


def _judge(prepared: Prepared, seed: int, width: int = 32, mean_score: float | None = 0.0, block: int = 128) -> RewardModelJudge:
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=640, n_layer=2, n_head=2, n_embd=width, n_positions=128, pad_token_id=0)
    config.num_labels, config.block_size = 1, block
    model = GPT2ForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.score.weight)
    return RewardModelJudge(model, prepared.tokenizer, Origin(folder=f"judge-{seed}", start="cloned", mean_score=mean_score))


def test_a_score_depends_on_its_story_alone(prepared: Prepared) -> None:
    judge = _judge(prepared, 0)
    alone = [float(story_scores(judge.model, judge.tokenizer, [story])[0]) for story in STORIES]
    assert max(alone) - min(alone) > 0.1
    for tokens in (1, 150, 8192):
        together = story_scores(judge.model, judge.tokenizer, STORIES, tokens)
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_stories_are_batched_by_tokens(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, shapes = _judge(prepared, 0), list[tuple[int, int]]()
    body: Any = judge.model.transformer
    real = body.forward

    def noted(*args: Any, **named: Any) -> Any:
        shapes.append(named["input_ids"].shape)
        return real(*args, **named)

    monkeypatch.setattr(body, "forward", noted)
    stories = [(prompt, text + " " * copy) for prompt, text in STORIES for copy in range(4)]
    story_scores(judge.model, judge.tokenizer, stories, tokens=256)
    assert sum(rows for rows, _ in shapes) == len(stories)
    assert all(rows * length <= 256 for rows, length in shapes)
    assert max(rows for rows, _ in shapes) >= 4 * min(rows for rows, _ in shapes), "short stories go together, long ones alone"
    assert [length for _, length in shapes] == sorted((length for _, length in shapes), reverse=True)


def test_rules_are_their_formulas(prepared: Prepared) -> None:
    judges = [_judge(prepared, seed, mean_score=float(seed)) for seed in range(3)]
    scores = np.stack([judge(STORIES) for judge in judges])
    centred = scores - np.array([[0.0], [1.0], [2.0]])
    np.testing.assert_allclose(Mean()(judges)(STORIES), scores.mean(0))
    np.testing.assert_allclose(Minimum()(judges)(STORIES), centred.min(0))
    np.testing.assert_allclose(Spread(2.0)(judges)(STORIES), centred.mean(0) - 2 * centred.std(0))
    assert len(np.unique(centred.argmin(0))) > 1
    for rule in (Mean(), Minimum(), Spread(), AveragedWeights()):
        np.testing.assert_array_equal(rule(judges[:1])(STORIES), scores[0])


def test_averaged_weights_are_the_mean_of_all_weights(prepared: Prepared) -> None:
    judges = [_judge(prepared, seed) for seed in range(2)]
    before = [judge(STORIES) for judge in judges]
    averaged = AveragedWeights()(judges)
    expected = _judge(prepared, 0)
    with torch.no_grad():
        for own, *both in zip(expected.model.parameters(), *(judge.model.parameters() for judge in judges), strict=True):
            own.copy_((both[0] + both[1]) / 2)
    np.testing.assert_allclose(averaged(STORIES), expected(STORIES), atol=1e-6)
    again = [story_scores(judge.model, judge.tokenizer, STORIES) for judge in judges]
    np.testing.assert_array_equal(again, before, "the judges stay as they were")


def test_judges_that_have_no_common_scale_or_start_are_refused(prepared: Prepared, other_tokenizer: Callable[[], Any]) -> None:
    one, other = _judge(prepared, 0), _judge(prepared, 1)
    assert one.about is not None
    with pytest.raises(UserError, match="judge-0 and judge-1 differ in shape"):
        AveragedWeights()([one, _judge(prepared, 1, width=64)])
    with pytest.raises(UserError, match="differ in block"):
        AveragedWeights()([one, _judge(prepared, 1, block=64)])
    with pytest.raises(UserError, match="differ in tokenizer"):
        AveragedWeights()([one, RewardModelJudge(other.model, other_tokenizer(), other.about)])
    with pytest.raises(UserError, match="differ in start"):
        AveragedWeights()(
            [one, RewardModelJudge(other.model, other.tokenizer, replace(one.about, folder="judge-1", start="else"))]
        )
    unknown = [RewardModelJudge(judge.model, judge.tokenizer, replace(one.about, start=None)) for judge in (one, other)]
    with pytest.raises(UserError, match="don't say which weights they began with"):
        AveragedWeights()(unknown)
    for rule in (Minimum(), Spread()):
        with pytest.raises(UserError, match="judge-1 does not say which score it gives on average"):
            rule([one, _judge(prepared, 1, mean_score=None)])
    with pytest.raises(UserError, match=r"judge_rule\.penalty must be 0 or more"):
        Spread(-1.0)
    with pytest.raises(UserError, match="names a folder twice"):
        JudgeScore(["a", "b", "a/"], Mean())


@pytest.fixture
def other_tokenizer(prepared: Prepared, tmp_path: Path) -> Callable[[], Any]:
    def make() -> Any:
        prepared.tokenizer.save_pretrained(tmp_path)
        other = type(prepared.tokenizer).from_pretrained(tmp_path)
        other.add_tokens(["zzyzx"])
        return other

    return make


def test_the_truth_knows_the_demo_only(prepared: Prepared) -> None:
    stories = [(story.prompt, story.response) for story in list(prepared.validation.stories)[:20]]
    scores = Truth().load(None)(stories)
    assert scores.min() >= 0
    assert scores.std() > 0.05
    Truth().require([prompt for prompt, _ in stories])
    with pytest.raises(UserError, match="score=truth knows the demo's prompts only, not '"):
        Truth().require(["[WP] Something else."])


def test_trained_judges_know_their_start_and_their_mean_score(folders: list[str], tmp_path: Path) -> None:
    small = ["objective=reward_model", "reward=thread_rank"]
    runs = [train_small(folders, f"judge-{seed}", *small, f"seed={seed}")[0] for seed in range(2)]
    judges = [load_judge(str(run_dir / "model"), 8192, str(tmp_path)) for run_dir in runs]
    info = json.loads((runs[0] / "model" / "rfr.json").read_text())
    assert judges[0].about is not None
    assert judges[0].about.mean_score == info["val/score"]
    with pytest.raises(UserError, match="differ in start"):  # random policies of two seeds
        AveragedWeights()(judges)
    assert np.isfinite(Spread()(judges)(STORIES)).all()


@pytest.mark.slow
def test_judges_of_two_seeds_from_one_policy_can_be_averaged(folders: list[str], tmp_path: Path) -> None:
    cloned, _ = train_small(folders, "cloned")
    begun = [f"model.{key}={cloned / 'model'}" for key in ("weights", "tokenizer")]
    small = ["objective=reward_model", "reward=thread_rank", *begun]
    runs = [train_small(folders, f"judge-of-{seed}", *small, f"seed={seed}")[0] for seed in range(2)]
    judges = [load_judge(str(run_dir / "model"), 8192, str(tmp_path)) for run_dir in runs]
    scores = [*(judge(STORIES) for judge in judges), AveragedWeights()(judges)(STORIES)]
    assert not np.array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[2], (scores[0] + scores[1]) / 2, atol=0.1)

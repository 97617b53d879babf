"""A judge is stopped by one half of the held-out threads and reported on the other; beside that stands what accuracy hides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rfr.data.batches import PairRows
from rfr.data.preference_pairs import PreferencePairs
from rfr.evaluate.judge_check import judge_check, pair_accuracy_of
from rfr.evaluate.within_prompts import correlation, mean_error, slope, spread
from rfr.records import Story
from rfr.runs.folder import run_folder
from rfr.train.build import build
from rfr.train.recipe import Recipe
from rfr.train.run import train
from tests.helpers.runs import column, small_config, stopped_at, train_small, weights

JUDGE = ["objective=reward_model", "reward=oracle", "preprocess.split.validation_share=0.4", "evaluation.stories=48"]


def test_what_suits_a_policy_is_not_suggested_for_its_judge(folders: list[str]) -> None:
    judge, policy = (Recipe.of(small_config(folders, "n", objective)) for objective in ("objective=reward_model", "objective=bc"))
    assert judge.learning_rate <= policy.learning_rate / 10
    assert judge.trainer.patience
    assert policy.trainer.patience is None
    assert judge.evaluation.count > 0 == policy.evaluation.count
    chosen = small_config(folders, "n", "objective=reward_model", "optimizer.lr=1e-5", "trainer.patience=null")
    assert (Recipe.of(chosen).learning_rate, chosen.trainer.patience) == (1e-5, None)


def test_halves_of_the_held_out_threads_have_no_thread_in_common(folders: list[str], tmp_path: Path) -> None:
    run = build(Recipe.of(small_config(folders, "halves", *JUDGE)), tmp_path)
    reported, stopping = run.data.validation, run.data.stopping
    assert isinstance(reported, PairRows)
    assert isinstance(stopping, PairRows)
    threads = run.prepared.validation.stories.column("thread_id")
    one, other = (set(threads[rows.comparisons.story]) for rows in (reported, stopping))
    assert len(one) >= 3
    assert len(other) >= 3
    assert not one & other
    for rows in (reported, stopping):
        pairs = rows.comparisons
        assert (threads[pairs.story[pairs.chosen]] == threads[pairs.story[pairs.rejected]]).all()
        assert (np.unique(pairs.group) == np.arange(len(rows))).all()
        assert (pairs.group[pairs.chosen] == pairs.group[pairs.rejected]).all()


@pytest.mark.slow
def test_the_best_by_one_half_is_what_is_left(folders: list[str]) -> None:
    cloned, _ = train_small(folders, "cloned", "trainer.max_steps=20", "trainer.validate_every=20")
    start = [f"model.weights={cloned}/model", f"model.tokenizer={cloned}/model"]
    settings = [*start, *JUDGE, "optimizer.lr=2e-2", "trainer.max_steps=60", "trainer.validate_every=2", "trainer.patience=3"]
    run_dir, result = train_small(folders, "judge", *settings)
    stopping = column(run_dir, "stop/pair_loss")
    best = int(np.argmin(stopping))
    assert result["steps"] == 2 * (best + 1 + 3) < 60, "three validations found none that is better"
    assert len(stopping) == best + 4
    assert result["best_step"] == 2 * (best + 1)
    assert result["stop/pair_loss"] == pytest.approx(min(stopping))
    assert result["val/pair_accuracy"] == pytest.approx(column(run_dir, "val/pair_accuracy")[best])
    info = json.loads((run_dir / "model" / "rfr.json").read_text())
    assert info == json.loads((run_dir / "best" / "rfr.json").read_text())
    for name in ("judge/pair_accuracy_of_truth", "judge/spread", "judge/length_slope", "judge/truth_correlation"):
        assert name in result
    assert result["judge/pair_accuracy_of_truth"] == 1, "the reward is the true quality"
    assert result["judge/spread"] > 0

    with stopped_at(2 * best + 5):
        train_small(folders, "again", *settings)
    again, resumed = train_small(folders, "again", *settings)
    assert resumed["steps"] == result["steps"]
    assert all((weights(again)[name] == value).all() for name, value in weights(run_dir).items())


def test_a_run_that_was_killed_after_its_early_stop_takes_no_further_step(folders: list[str]) -> None:
    settings = [*JUDGE, "optimizer.lr=2e-2", "trainer.max_steps=60", "trainer.validate_every=2", "trainer.patience=1"]
    run_dir, result = train_small(folders, "killed", *settings)
    assert result["steps"] < 60
    (run_dir / "result.json").unlink()
    cfg = small_config(folders, "killed", *settings)
    again = train(Recipe.of(cfg), run_folder(cfg))
    assert (again["steps"], again["val/pair_loss"]) == (result["steps"], result["val/pair_loss"])
    assert not [name for name in again if name.startswith("judge/sp")], "random weights write nothing"


# --- the figures beside its accuracy


def test_figures_are_of_what_happens_within_prompts() -> None:
    generator = np.random.default_rng(0)
    prompts = [f"p{number // 8}" for number in range(400)]
    levels = np.repeat(generator.normal(0, 50, 50), 8)
    x, noise = generator.normal(size=400), generator.normal(size=400)
    y = 2 * x + noise + levels
    assert slope(y, x, prompts) == pytest.approx(2, abs=0.2)
    assert correlation(y, x + levels[::-1], prompts) == pytest.approx(2 / np.sqrt(5), abs=0.05)
    assert spread(noise + levels, prompts) == pytest.approx(1, abs=0.1)
    assert spread(levels, prompts) == pytest.approx(0, abs=1e-9)
    assert mean_error(levels, prompts) == pytest.approx(levels[::8].std(ddof=1) / np.sqrt(50), rel=1e-6)
    assert (slope(y, levels, prompts), spread(np.ones(2), ["a", "b"])) == (0, 0)


def test_a_judge_that_has_learned_length_is_found_out() -> None:
    generator = np.random.default_rng(0)
    stories = [(f"p{number // 8}", "w " * int(generator.integers(5, 90))) for number in range(160)]
    lengths = np.array([len(text.split()) for _, text in stories])
    by_length = judge_check(stories, np.log(lengths + 1.0), None)
    assert by_length["length_slope"] == pytest.approx(1)
    assert by_length["length_correlation"] == pytest.approx(1)
    assert "truth_correlation" not in by_length
    fair = judge_check(stories, generator.normal(size=160), lambda prompt, text: len(text))
    assert abs(fair["length_correlation"]) < 0.2
    assert abs(fair["truth_correlation"]) < 0.2


def test_the_truths_own_accuracy_counts_ties_half() -> None:
    quality = {"a": 0.9, "b": 0.1, "c": 0.1}
    stories = [Story(thread_id="t", reply_id=text, prompt="p", response=text) for text in quality]
    pairs = PreferencePairs(
        story=np.array([0, 1, 2]), group=np.zeros(3, int), chosen=np.array([0, 1, 1]), rejected=np.array([1, 0, 2])
    )
    assert pair_accuracy_of(lambda _, text: quality[text], pairs, stories) == pytest.approx((1 + 0 + 0.5) / 3)

"""Rewards and weights of a run: fitted on the training threads alone, shown, logged and drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rfr.data.batches import WeightedRows
from rfr.loggers.wandb_file import history
from rfr.reward.residual import Residual
from rfr.runs.folder import run_folder
from rfr.train.build import Run, build
from rfr.train.recipe import Recipe
from tests.conftest import ROOT
from tests.helpers.runs import column, small_config, train_small

REWARDS = sorted(path.stem for path in (ROOT / "conf" / "reward").glob("*.yaml"))
PAIRWISE = {"dpo", "reward_model"}
OBJECTIVES = sorted(
    {path.stem for path in (ROOT / "conf" / "objective").glob("*.yaml")} - PAIRWISE - {"rloo"}
)  # which has own stories


def _built(folders: list[str], *overrides: str) -> Run:
    cfg = small_config(folders, "built", *overrides)
    return build(Recipe.of(cfg), run_folder(cfg))


@pytest.mark.parametrize("reward", REWARDS)
def test_every_reward_weighs_the_demo(folders: list[str], reward: str) -> None:
    run = _built(folders, "objective=rwr", f"reward={reward}", "objective.weight.target_ess=0.5")
    rewards, weights = (run.data.arrays[name] for name in ("rewards", "weights"))
    assert len(rewards) == len(weights) == len(run.prepared.train.stories)
    assert abs(run.data.figures["weights/ess"] - 0.5) < 0.005
    best, worst = rewards.argmax(), rewards.argmin()
    assert weights[best] > 1 > weights[worst]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_weighs_the_demo(folders: list[str], objective: str) -> None:
    run = _built(folders, f"objective={objective}", "reward=thread_zscore")
    tokens, rows = run.prepared.train.target_tokens, run.data.train
    assert isinstance(rows, WeightedRows)
    assert np.isclose((rows.weights * tokens).sum() / tokens.sum(), 1)
    assert (run.data.arrays == {}) == (objective == "bc")
    if objective not in ("bc", "conditional"):
        assert np.corrcoef(run.data.arrays["rewards"], rows.weights)[0, 1] > 0.3
        assert run.data.figures["weights/ess"] < 0.95


def test_rewards_are_fitted_on_training_threads_only(folders: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fitted_on: list[str] = []

    def fit(self: Any, threads: Any) -> None:
        fitted_on.extend(thread[0].thread_id for thread in threads)
        whole(self, threads)

    whole = Residual.fit
    monkeypatch.setattr(Residual, "fit", fit)
    run = _built(folders, "objective=awr", "reward=residual", "reward.iterations=5")
    of = {
        name: {story.thread_id for story in split.stories}
        for name, split in vars(run.prepared).items()
        if hasattr(split, "stories")
    }
    assert sorted(fitted_on) == sorted(of["train"])
    assert of["validation"]
    assert not of["train"] & of["validation"]


def test_tiers_of_another_reward(folders: list[str]) -> None:
    run = _built(folders, "objective=linear", "reward=tiers", "reward@reward.inner=residual", "reward.inner.iterations=5")
    assert set(run.data.arrays["rewards"]) == {-1, 0, 1}


def test_the_health_of_the_weights_is_shown_and_logged(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    loggers = "logger=[csv,tensorboard,wandb]"
    run_dir, result = train_small(folders, "healthy", "objective=awr", "reward=log_karma", "objective.clip=1.5", loggers)
    shown = capsys.readouterr().out
    for words in ("before clipping)", "largest weight's share", "stories clipped", "evenness of the weights", "beta"):
        assert words in shown
    assert column(run_dir, "weights/ess") == [pytest.approx(result["ess"], abs=1e-4)]
    assert 0 < column(run_dir, "weights/ess_unclipped")[0] < result["ess"] < 1
    assert column(run_dir, "weights/beta") == [1]
    for name in ("largest_share", "clipped_share", "entropy"):
        assert 0 < column(run_dir, f"weights/{name}")[0] < 1
    _check_histograms(run_dir)


def _check_histograms(run_dir: Path) -> None:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"histograms": 0}).Reload()
    (drawn,) = events.Histograms("rewards")
    assert drawn.histogram_value.num > 100
    assert {"rewards", "weights"} == set(events.Tags()["histograms"])
    (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    values = {key: value for row in history(file) for key, value in row.items()}
    assert values["rewards/_type"] == values["weights/_type"] == '"histogram"'
    assert (
        sum(json.loads(values["rewards/values"])) == sum(json.loads(values["weights/values"])) == int(values["weights/stories"])
    )
    assert math.isclose(float(values["weights/beta"]), 1)

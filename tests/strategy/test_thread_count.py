"""The number of threads: decided once by the model's size, written into the config, kept by a resumed run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml

from rfr.runs.folder import load
from rfr.strategy.thread_count import ONE_THREAD_BELOW, set_threads
from rfr.train.recipe import Recipe
from rfr.train.run import train
from rfr.utils.openmp import SPINS, bound_spinning
from tests.helpers.runs import column, stopped_at, train_small


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers that torch is given, on a machine of eight cores."""
    given: list[int] = []
    monkeypatch.setattr("rfr.strategy.thread_count.CORES", 8)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    return given


@pytest.mark.parametrize(
    ("asked", "parameters", "threads"),
    [(None, ONE_THREAD_BELOW - 1, 1), (None, ONE_THREAD_BELOW, 8), (3, 10**9, 3), (3, 10, 3)],
)
def test_the_number_follows_the_models_size(numbers: list[int], asked: int | None, parameters: int, threads: int) -> None:
    assert set_threads(asked, parameters) == threads
    assert numbers == [threads]


def test_a_resumed_run_keeps_its_number(folders: list[str], numbers: list[int]) -> None:
    with stopped_at(3):
        train_small(folders, "threads", "threads=5")
    run_dir = Path(folders[1].partition("=")[2]) / "threads"
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["threads"] == 5
    train(Recipe.of(load(run_dir)), run_dir)
    assert numbers == [5, 5]
    assert len(column(run_dir, "train/loss")) == 6


def test_the_config_says_what_was_decided(folders: list[str], numbers: list[int]) -> None:
    run_dir, _ = train_small(folders, "decided")
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["threads"] == 1 == numbers[0]


def test_a_large_policy_after_a_small_one_has_all_cores(numbers: list[int]) -> None:
    assert [set_threads(None, parameters) for parameters in (10, 10**9)] == [1, 8]


@pytest.mark.parametrize("own", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_spinning_is_bounded_unless_the_user_has_decided(own: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv(own, "active")
    bound_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == {None: str(SPINS), "GOMP_SPINCOUNT": "active"}.get(own)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)

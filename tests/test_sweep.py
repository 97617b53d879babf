"""The ready sweeps and the comparison table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rfr import config
from rfr.compare.command import compare
from tests.conftest import ROOT

SWEEPS = sorted((ROOT / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_point_of_a_ready_sweep_composes(path: Path) -> None:
    params = OmegaConf.load(path).hydra.sweeper.params
    points: list[list[str]] = [[]]
    for key, values in params.items():
        points = [[*point, f"{key}={value}"] for point in points for value in str(values).split(",")]
    assert len(points) == 9
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        identities = {config.identity(config.resolve(compose("train", point))) for point in points}
    assert len(identities) == len(points)


def test_objectives_of_another_kind_keep_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for objective in ("bc", "rwr", "dpo", "reward_model"):
            cfg = config.resolve(compose("train", [f"objective={objective}", f"name=run-{objective}"]))
            (tmp_path / objective).mkdir()
            OmegaConf.save(cfg, tmp_path / objective / "config.yaml")
            (tmp_path / objective / "result.json").write_text('{"val/pair_accuracy": 0.6}' if objective == "dpo" else "{}")
    compare(tmp_path)
    with (tmp_path / "comparison.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {row["run"]: row["objective.name"] for row in rows} == {name: name for name in ("bc", "rwr", "dpo", "reward_model")}
    assert [row["val/pair_accuracy"] for row in rows if row["run"] == "dpo"] == ["0.6"]


def test_the_table_shows_what_differs_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for name, rate in (("slow", "1e-3"), ("fast", "3e-3"), ("unfinished", "9e-3")):
            cfg = config.resolve(compose("train", [f"optimizer.lr={rate}", "schedule=linear", f"name={name}"]))
            (tmp_path / name).mkdir()
            OmegaConf.save(cfg, tmp_path / name / "config.yaml")
            if name != "unfinished":
                result = {"val/nll_per_token": 2.0, "quality": 0.5, "quality_low": 0.4, "quality_high": 0.6, "ess": 1.0}
                (tmp_path / name / "result.json").write_text(json.dumps(result | {"tokens_per_second": 1234.5}))
    compare(tmp_path)
    with (tmp_path / "comparison.csv").open() as lines:
        rows = {row["run"]: row for row in csv.DictReader(lines)}
    assert {name: row["optimizer.lr"] for name, row in rows.items()} == {"slow": "0.001", "fast": "0.003", "unfinished": "0.009"}
    assert "schedule" not in rows["slow"]
    assert rows["unfinished"]["val/nll_per_token"] == ""
    assert json.loads((tmp_path / "summary.json").read_text())["fast"]["nll_per_token"] == 2.0
    out = capsys.readouterr().out
    assert "0.500 [0.400, 0.600]" in out
    assert "3 runs" in out

"""The ready sweeps and the comparison table."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from rfr import cli, config
from rfr.commands.compare import compare
from rfr.runs.best import best_groups
from rfr.runs.folder import identity
from rfr.runs.results import collect_results, run_dirs_in
from rfr.sweep.points import Point, points
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, command

POINTS = {"lr_schedule": 9, "model_size": 9, "preprocessing": 12, "rewards": 24, "search": 8}
WANDB = {"wandb_lr": 6, "wandb_rewards": 6}


def test_every_ready_sweep_is_tested() -> None:
    assert {path.stem for path in (ROOT / "sweep").glob("*.yaml")} == {*POINTS, *WANDB}


@pytest.mark.slow
@pytest.mark.parametrize("name", POINTS)
def test_every_point_of_a_ready_sweep_composes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command in its first lines would; of a search, every choice and both ends of every interval."""
    command = re.search(r"python train.py (.*)", (ROOT / "sweep" / f"{name}.yaml").read_text())
    assert command is not None
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", *command[1].split()])
    composed: list[Point] = []

    def stop(master: DictConfig) -> int:
        composed.extend(points(master, "group"))
        return 3

    monkeypatch.setattr("rfr.sweep.callback._preflight", stop)
    with pytest.raises(SystemExit, match="3"):
        cli.train()
    assert len(composed) == POINTS[name]
    assert len({identity(point.cfg) for point in composed}) == len(composed)
    assert {point.cfg.group for point in composed} == {name}


@pytest.mark.parametrize("name", WANDB)
def test_every_value_of_a_wandb_sweep_composes(name: str) -> None:
    """One parameter at a time, both ends of a distribution, as the agent writes them on the command line."""
    definition = yaml.safe_load((ROOT / "sweep" / f"{name}.yaml").read_text())
    assert definition["early_terminate"]["type"] == "hyperband"
    assert definition["program"] == "train.py"
    fixed = [part for part in definition["command"] if not part.startswith("${")]
    assert definition["command"][-1] == "${args_no_hyphens}"
    values = {key: _values(parameter) for key, parameter in definition["parameters"].items()}
    first = {key: of_key[0] for key, of_key in values.items()}
    tried = [first, *({**first, key: value} for key, of_key in values.items() for value in of_key[1:])]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = [compose("train", [*fixed, *(f"{key}={value}" for key, value in point.items())]) for point in tried]
        identities = {identity(config.resolve(cfg)) for cfg in composed}
    assert len(identities) == len(tried) == WANDB[name]


def _values(parameter: dict) -> list:
    if "value" in parameter:
        return [parameter["value"]]
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


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


def test_keys_that_follow_others_tell_no_runs_apart(tmp_path: Path) -> None:
    """`samples.sampling.seed` is `${seed}`: seeds of one rate are pooled."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for rate, seed in itertools.product(("1e-3", "3e-3"), (0, 1)):
            cfg = config.resolve_run(compose("train", [f"optimizer.lr={rate}", f"seed={seed}", "name=x"]))
            (run_dir := tmp_path / f"{rate}-{seed}").mkdir()
            OmegaConf.save(cfg, run_dir / "config.yaml")
            (run_dir / "result.json").write_text(json.dumps({"val/nll_per_token": 2.0 + float(rate) + seed / 1e4}))
    results = collect_results(sorted(tmp_path.iterdir()))
    assert sorted(results.varied) == ["optimizer.lr", "seed"]
    best = best_groups(results)
    assert [(row["of"], row["runs"]) for row in best] == [("optimizer.lr=0.001", 2), ("optimizer.lr=0.003", 2)]
    assert best[0]["mean"] == pytest.approx(2.00105)


def test_keys_that_follow_other_keys_are_listed() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        derived = config.resolve_run(compose("train", ["optimizer.lr=1e-3"])).derived
    assert {"samples.sampling.seed", "evaluation.sampling", "preprocess.block_size"} <= set(derived)
    assert not {"seed", "optimizer.lr", "model.block_size"} & set(derived)


@pytest.mark.slow
def test_a_real_sweep_pools_its_seeds(folders: list[str]) -> None:
    """In the table, on the page and in the JSON."""
    done = command(["train.py", "-m", *SMALL, *folders, "group=pooled", "seed=0,1", "optimizer.lr=1e-3,1e-2"])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("seed=") == 0
    runs_dir = Path(next(part.removeprefix("runs_dir=") for part in folders if part.startswith("runs_dir=")))
    results = collect_results(run_dirs_in(runs_dir / "pooled"))
    assert sorted(results.varied) == ["optimizer.lr", "seed"]
    values = {rate: [row["val/nll_per_token"] for row in results.rows if row["optimizer.lr"] == rate] for rate in (0.001, 0.01)}
    best = {row["of"]: row for row in best_groups(results)}
    for rate, losses in values.items():
        group = best[f"optimizer.lr={rate}"]
        assert len(set(losses)) == group["runs"] == 2
        assert group["mean"] == pytest.approx(sum(losses) / 2)
        assert group["low"] < group["mean"] < group["high"]
    assert "the best of each" in done.stdout
    page = (runs_dir / "pooled" / "comparison.html").read_text()
    data = json.loads(page.split("<script type=application/json id=data>")[1].split("</script>")[0])
    assert {row["of"]: row["runs"] for row in data["best"]} == {"optimizer.lr=0.01": 2, "optimizer.lr=0.001": 2}


def _runs(folder: Path, *names: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for name in names:
            cfg = config.resolve(compose("train", [f"name={name}"]))
            (folder / name).mkdir(parents=True)
            OmegaConf.save(cfg, folder / name / "config.yaml")
            (folder / name / "result.json").write_text('{"val/nll_per_token": 2.0}')


def test_one_run_in_two_sweeps_is_two_rows(tmp_path: Path) -> None:
    for sweep in ("monday", "friday"):
        _runs(tmp_path / sweep, "same")
    _runs(tmp_path / "friday", "another")
    results = collect_results([tmp_path / "monday" / "same", tmp_path / "friday" / "same", tmp_path / "friday" / "another"])
    assert sorted(row["run"] for row in results.rows) == ["another", "friday/same", "monday/same"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", "a: [1", "config.yaml can't be read: while parsing"),
        ("config.yaml", "", "config.yaml is no config of a run"),
        ("config.yaml", "- 1\n", "config.yaml is no config of a run"),
        ("config.yaml", "model: 3\n", "config.yaml is no config of a run"),
        ("result.json", '{"val', "result.json is damaged: remove it"),
        ("result.json", "3", "result.json is damaged: remove it"),
        ("failure.json", "", "failure.json is damaged: remove it"),
    ],
)
def test_a_damaged_run_is_named(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]], file: str, content: str, message: str
) -> None:
    _runs(tmp_path, "one", "two")
    (tmp_path / "two" / file).write_text(content)
    code, _, err = command("evaluate", "report=compare", f"runs=[{tmp_path}]")
    assert code == 2, err
    assert f"{tmp_path}/two/{message}" in err
    assert err.count("\n") == 1

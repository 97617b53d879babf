"""W&B: what its real client tells a server of a run, online, offline, resumed, and when the network fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from rfr.loggers.wandb_file import history
from rfr.loggers.wandb_run import STEP, WandbLog
from rfr.runs.curves import HELD_OUT, IN_ROUNDS
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command, last_json
from tests.helpers.wandb_stub import Server, serving

RUN = ["train.py", *(override for override in SMALL if not override.startswith("logger")), "logger=[csv,wandb]", "objective=rwr"]


class Told:
    """Stands in for W&B's run: what it was told, each row of a step merged."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}

    def log(self, metrics: dict[str, Any], step: int) -> None:
        assert step >= max(self.rows, default=0), "W&B drops what comes late"
        self.rows.setdefault(step, {}).update(metrics)


def test_a_resumed_run_tells_what_is_missing_and_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,val\n0,9.5,\n1,8.5,7.5\n2,7.25,\n3,6,\n")
    run = Told()
    log = WandbLog(run, known=0, corpus_text=False)
    log.backfill(tmp_path / "metrics.csv")
    assert run.rows == {1: {"loss": 8.5, "val": 7.5, STEP: 1}, 2: {"loss": 7.25, STEP: 2}}
    for step in range(1, 5):  # it goes on from a checkpoint at step 1
        log.log_metrics({"loss": float(step)}, step)
        log.log_metrics({"more": float(step)})
    assert run.rows[2] == {"loss": 7.25, STEP: 2}
    assert run.rows[4] == {"loss": 4.0, "more": 4.0, STEP: 4}
    assert sorted(run.rows) == [1, 2, 3, 4]


def test_the_last_row_of_an_attempt_is_told_where_a_checkpoint_followed_it(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n0,9.5\n1,8.5\n2,7.25\n")
    run = Told()
    log = WandbLog(run, known=0, corpus_text=False)
    log.backfill(tmp_path / "metrics.csv")
    assert sorted(run.rows) == [1]
    log.log_metrics({"loss": 6.5}, 3)  # killed after the checkpoint of step 4, before anything was logged of step 3
    log.log_metrics({"loss": 5.5}, 4)
    assert run.rows == {step: {"loss": loss, STEP: step} for step, loss in [(1, 8.5), (2, 7.25), (3, 6.5), (4, 5.5)]}


def test_a_fresh_run_tells_all_and_a_row_grows(tmp_path: Path) -> None:
    run = Told()
    log = WandbLog(run, known=-1, corpus_text=False)
    log.log_metrics({"weights/ess": 1.0}, 0)
    log.log_metrics({"loss": 9.0}, 0)
    log.log_metrics({"loss": 8.0}, 1)
    assert run.rows == {0: {"weights/ess": 1.0, "loss": 9.0, STEP: 0}, 1: {"loss": 8.0, STEP: 1}}


@pytest.mark.parametrize(("corpus_text", "prompts"), [(False, [0, 1]), (True, ["[WP] one", "[WP] two"])])
def test_prompts_are_sent_only_when_asked_for(corpus_text: bool, prompts: list) -> None:
    run = Told()
    rows = [{"step": 3, "prompt": prompt, "response": "a story"} for prompt in ("[WP] one", "[WP] two")]
    WandbLog(run, known=-1, corpus_text=corpus_text).log_samples(rows, step=2)
    table = run.rows[2]["samples"]
    assert [row[1] for row in table.data] == prompts
    assert [row[2] for row in table.data] == ["a story", "a story"]


def _environment(server: Server) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    return {**kept, **server.environment}


def _losses(rows: list[dict[str, Any]]) -> dict[int, float]:
    return {row[STEP]: row["train/loss"] for row in rows if "train/loss" in row}


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0.0, 0.5])
def test_every_logged_figure_arrives_online(folders: list[str], failing: float) -> None:
    with serving(failing) as server:
        options = ["group=online", f"name=online-{failing}", "trainer.max_steps=40", "trainer.validate_every=10"]
        done = command([*RUN, *folders, *options], env=_environment(server))
        result = last_json(done)
    run_dir = Path(result["run_dir"])
    if failing:
        assert server.answered["failed"] > 5
    assert not server.broken
    ((name, run),) = server.runs.items()
    rows = server.rows(name)
    assert [row["_step"] for row in rows] == list(range(41))  # the last one holds what is known at the end
    assert list(_losses(rows).values()) == column(run_dir, "train/loss")
    assert [row["val/nll_per_token"] for row in rows if "val/nll_per_token" in row] == column(run_dir, "val/nll_per_token")
    assert [row["tokens"] for row in rows if "tokens" in row] == column(run_dir, "tokens")
    assert column(run_dir, "optimizer_steps") == list(range(1, 41))
    assert sum("rewards" in row for row in rows) == 1
    assert run["groupName"] == "online"
    assert run["jobType"] == "train"
    assert {"rwr", "random", "Cosine"} <= set(run["tags"])
    config = json.loads(run["config"])
    assert config["trainer"]["value"]["max_steps"] == 40
    assert {artifact["artifactTypeName"] for artifact in server.artifacts} >= {"ledger", "run_table"}
    assert json.loads(server.files["ledger.json"]) == json.loads((run_dir / "ledger.json").read_text())
    assert not any(b"[WP]" in content for name, content in server.files.items() if "table" in name), "prompts are the corpus's"


@pytest.mark.slow
def test_a_killed_run_is_resumed_online_as_the_same_run(folders: list[str]) -> None:
    with serving() as server:
        options = [*RUN, *folders, "name=cut", "trainer.max_steps=60", "trainer.validate_every=10", "trainer.checkpoint_every=10"]
        child = subprocess.Popen([sys.executable, *options], cwd=ROOT, env=_environment(server), start_new_session=True)
        run_dir = Path(folders[1].removeprefix("runs_dir=")) / "cut"
        while len(list(run_dir.glob("checkpoints/step-*"))) < 2:
            assert child.poll() is None
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        done = command(["train.py", f"resume={run_dir}"], env=_environment(server))
        assert last_json(done)["steps"] == 60
    ((name, _),) = server.runs.items()
    assert list(_losses(server.rows(name)).values()) == column(run_dir, "train/loss")
    steps = [row["_step"] for row in server.rows(name) if "train/loss" in row]
    assert steps == list(range(60))


def test_a_file_of_a_writer_that_was_killed_at_once_holds_nothing(tmp_path: Path) -> None:
    for content in (b"", b":W&B", b":W&B\x9d\x7a\x00"):
        (tmp_path / "run.wandb").write_bytes(content)
        assert history(tmp_path / "run.wandb") == []


class Orders:
    """What W&B's server tells an agent: to run each of these in turn, to stop one once it has validated, to end."""

    def __init__(self, server: Server, points: dict[str, dict[str, Any]], stopped: str) -> None:
        self._server, self._points, self._stopped, self._left = server, points, stopped, list(points)

    def __call__(self, running: set[str]) -> list[dict[str, Any]]:
        if self._stopped in running and any("val/nll_per_token" in row for row in self._server.rows(self._stopped)):
            return [{"type": "stop", "run_id": self._stopped}]
        if running:
            return []
        if not self._left:
            return [{"type": "exit"}]
        run = self._left.pop(0)
        arguments = {key: {"value": value} for key, value in self._points[run].items()}
        return [{"type": "run", "run_id": run, "program": "train.py", "args": arguments}]


@pytest.mark.slow
def test_a_wandb_agent_trains_the_points_of_its_sweep_and_ends_the_worse_ones(folders: list[str], tmp_path: Path) -> None:
    """Real `wandb sweep` and `wandb agent`; a run that is ended early is no failure, of which one would end the agent here."""
    sweep = yaml.safe_load((ROOT / "sweep" / "wandb_lr.yaml").read_text())
    assert sweep["command"].pop() == "${args_no_hyphens}"
    longer = ["trainer.max_steps=4000", "trainer.validate_every=10", "trainer.validation_rows=4"]
    small = [*RUN[1:], *folders, *longer, "trainer.checkpoint_every=1000", "samples.prompts=0", "${args_no_hyphens}"]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**sweep, "command": [*sweep["command"], *small]}))
    points: dict[str, dict[str, Any]] = {
        "first": {"optimizer.lr": 1e-3, "schedule": "constant", "seed": 1, "trainer.max_steps": 20},
        "ended": {"optimizer.lr": 3e-5, "schedule": "cosine", "seed": 2},
        "last": {"optimizer.lr": 1e-4, "schedule": "linear", "seed": 0, "trainer.max_steps": 20},
    }
    with serving() as server:
        server.orders = Orders(server, points, stopped="ended")
        scripts = Path(sys.executable).parent
        environment = {**_environment(server), "PATH": f"{scripts}:{os.environ['PATH']}", "WANDB_AGENT_MAX_INITIAL_FAILURES": "1"}
        wandb = [sys.executable, "-m", "wandb"]
        options: dict[str, Any] = {
            "cwd": ROOT,
            "env": environment | {"WANDB_DIR": str(tmp_path)},
            "capture_output": True,
            "text": True,
        }
        made = subprocess.run([*wandb, "sweep", "--project", "rfr", str(tmp_path / "sweep.yaml")], timeout=120, **options)
        assert "wandb agent" in made.stderr, made.stderr
        done = subprocess.run([*wandb, "agent", "me/rfr/swept"], timeout=500, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not server.broken
    assert set(server.runs) == set(points), done.stderr[-3000:]
    for name, point in points.items():
        settings = json.loads(server.runs[name]["config"])
        assert settings["optimizer"]["value"]["lr"] == point["optimizer.lr"]
        assert settings["seed"]["value"] == point["seed"]
        assert server.runs[name]["sweep"] == "swept"
    steps = {name: len(_losses(server.rows(name))) for name in points}
    assert steps["first"] == steps["last"] == 20
    assert 10 <= steps["ended"] < 4000
    assert f"stopped at step {steps['ended']}; go on with" in done.stderr


@pytest.mark.slow
def test_a_server_that_is_not_there_costs_nothing_but_the_upload(folders: list[str]) -> None:
    with serving() as server:
        environment = {**_environment(server), "WANDB_INIT_TIMEOUT": "3"}
    result = last_json(done := command([*RUN, *folders, "name=alone"], env=environment))
    run_dir = Path(result["run_dir"])
    assert "W&B can't be reached" in done.stdout
    assert f"wandb sync {run_dir / 'wandb'}" in done.stdout
    (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    losses = [float(row["train/loss"]) for row in history(file) if "train/loss" in row]
    assert losses == column(run_dir, "train/loss")


@pytest.mark.slow
def test_an_evaluation_is_a_run_of_its_own(folders: list[str]) -> None:
    run_dir = Path(last_json(command([*RUN, *folders, "name=judged", "group=some"]))["run_dir"])
    with serving() as server:
        data = ["corpus=demo", "corpus.demo.threads=40", folders[0], "preprocess.fit.context_tokens=16"]
        data += ["stories=2", "sampling.max_new_tokens=4", "ranking.stories=0"]
        done = command(
            ["evaluate.py", f"model.weights={run_dir / 'model'}", *data, "wandb_project=rfr"], env=_environment(server)
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not server.broken
    ((name, run),) = server.runs.items()
    assert run["jobType"] == "evaluate"
    assert run["groupName"] == "some"
    assert run["displayName"] == "judged-evaluation"
    evaluation = json.loads(next(run_dir.glob("reports/*/evaluation.json")).read_text())
    assert json.loads(server.files["evaluation.json"]) == evaluation
    summary = json.loads(server.files[f"{name}/wandb-summary.json"])
    assert summary["threads"] == evaluation["threads"]
    assert any(name.startswith("nll_by_karma/") for name in summary)


def _keys(node: Any, wanted: set[str]) -> set[str]:
    """All strings under these keys of a nested spec."""
    if isinstance(node, dict):
        here = {text for key in wanted & node.keys() for text in _strings(node[key])}
        return here.union(*(_keys(value, wanted) for value in node.values()))
    return set().union(*(_keys(value, wanted) for value in node)) if isinstance(node, list) else set()


def _strings(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    return [text for value in node for text in _strings(value)] if isinstance(node, list) else []


def _flat(node: Any, prefix: str) -> set[str]:
    if not isinstance(node, dict):
        return {prefix}
    return set().union(*(_flat(value, f"{prefix}.{key}" if prefix else key) for key, value in node.items()))


@pytest.mark.slow
def test_every_key_of_the_dashboard_is_logged(folders: list[str]) -> None:
    """Its view, saved to a server, names nothing that a run does not tell."""
    with serving() as server:
        judged = ["reward=log_karma", "evaluation.stories=2"]
        last_json(command([*RUN, *folders, "name=shown", *judged], env=_environment(server)))
        view = ["evaluate.py", "report=dashboard", "report.entity=me", "report.group=lr_schedule"]
        done = command(view, env=_environment(server))
    assert done.returncode == 0, done.stderr[-2000:]
    assert not server.broken
    ((name, run),) = server.runs.items()
    logged = set().union(*(row for row in server.rows(name)))
    config = {key: value["value"] for key, value in json.loads(run["config"]).items()}
    settings = _flat(config, "")
    (saved,) = server.views
    spec = json.loads(saved["spec"])
    shown = _keys(spec, {"metrics", "xAxis"})
    assert len(shown) >= 8
    of_rounds = {key for key in shown if key.startswith(("held_out/", "round/"))}  # tests/rollouts holds that a run logs them
    assert of_rounds
    assert of_rounds <= {*HELD_OUT, *IN_ROUNDS}
    assert shown - of_rounds <= logged, shown - of_rounds - logged
    grouped = {text.removeprefix("config:").replace(".value", "") for text in _keys(spec, {"groupBy", "accessor"})}
    assert len(grouped) >= 4
    assert {key for key in grouped if not key.startswith("summary:")} <= settings

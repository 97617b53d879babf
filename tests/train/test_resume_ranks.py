"""A run may go on with other numbers of ranks and micro-batches than it began with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.runs import SMALL, column, command, last_json

BEGUN = ["trainer.ranks=1", "trainer.micro_batch=2", "trainer.accumulate=2"]
WIDER = ["trainer.ranks=2", "trainer.micro_batch=2", "trainer.accumulate=1"]


def _half_way(run_dir: Path, target: Path) -> Path:
    """A copy of a finished run as it was when it was cut off after step 4."""
    shutil.copytree(run_dir, target)
    shutil.rmtree(target / "checkpoints" / "step-00000006")
    (target / "result.json").unlink()
    return target


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["deepspeed_2", "deepspeed_3", "ddp"])
def test_ranks_may_change_on_resume(folders: list[str], tmp_path: Path, strategy: str) -> None:
    settings = [f"strategy={strategy}", "objective=rwr", "trainer.checkpoint_every=2"]
    whole = last_json(command(["train.py", *SMALL, *folders, f"name={strategy}", *settings, *BEGUN]))
    run_dir = Path(whole["run_dir"])
    wider = _half_way(run_dir, tmp_path / "wider")
    result = last_json(command(["train.py", f"resume={wider}", *WIDER]))
    assert result["steps"] == 6
    assert result["val/nll_per_token"] == pytest.approx(whole["val/nll_per_token"], rel=1e-4)
    assert column(wider, "grad_norm") == pytest.approx(column(run_dir, "grad_norm"), rel=1e-3)
    narrower = _half_way(wider, tmp_path / "narrower")
    again = last_json(command(["train.py", f"resume={narrower}", *BEGUN]))
    assert again["val/nll_per_token"] == pytest.approx(whole["val/nll_per_token"], rel=1e-4)


@pytest.mark.slow
def test_the_rows_of_a_step_and_the_model_may_not(folders: list[str], tmp_path: Path) -> None:
    settings = ["name=fixed", "trainer.checkpoint_every=2"]
    run_dir = Path(last_json(command(["train.py", *SMALL, *folders, *settings, *BEGUN]))["run_dir"])
    halved = command(["train.py", f"resume={_half_way(run_dir, tmp_path / 'halved')}", "trainer.micro_batch=1"])
    assert halved.returncode == 2
    assert "a step of this run took 4 rows and would take 2" in halved.stderr
    other = _half_way(run_dir, tmp_path / "other")
    config = (other / "config.yaml").read_text()
    assert "n_embd: 32" in config
    (other / "config.yaml").write_text(config.replace("n_embd: 32", "n_embd: 64"))
    output = command(["train.py", f"resume={other}"])
    assert output.returncode == 2
    assert "holds a model of other shapes" in output.stderr
    assert "Traceback" not in output.stderr
    kept = command(["train.py", f"resume={run_dir}", "optimizer.lr=1"])
    assert kept.returncode == 2
    assert "keeps its own config" in kept.stderr


@pytest.mark.slow
def test_ranks_leave_nothing_in_shared_memory(folders: list[str]) -> None:
    """DeepSpeed would leave 69 MB of it behind with every run, until a machine has none left."""
    shared_memory = Path("/dev/shm")
    before = set(shared_memory.glob("deepspeed_*"))
    result = last_json(command(["train.py", *SMALL, *folders, "name=shared", "strategy=deepspeed_2", *WIDER]))
    assert result["steps"] == 6
    assert set(shared_memory.glob("deepspeed_*")) <= before

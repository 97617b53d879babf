"""Offloading, to memory and to a disk: the same training, and the same after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command, largest_difference, last_json, train_small

SEVERAL = "strategy.sub_group_size=5000"  # parameters: several groups, of which some are too small to be swapped


@pytest.fixture(autouse=True)
def _quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed compiles its parts with debug symbols, which takes twice as long."""
    monkeypatch.setenv("CXX", str(ROOT / "tests" / "helpers" / "g++_without_symbols"))


def _settings(strategy: str) -> list[str]:
    kept = ["trainer.checkpoint_every=2", "trainer.keep_checkpoints=3", "trainer.validate_every=6"]
    return [f"strategy={strategy}", "optimizer=cpu_adam", "objective=rwr", *kept]


def _require_libaio() -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible(verbose=False):
        pytest.skip("SKIPPED LOUDLY: offloading to a disk needs the system package libaio-dev")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["deepspeed_offload", "deepspeed_offload_all", "deepspeed_nvme"])
def test_offloading_trains_as_one_plain_process_does_and_resumes_to_the_bit(
    folders: list[str], tmp_path: Path, strategy: str
) -> None:
    settings = _settings(strategy)
    if strategy == "deepspeed_nvme":
        _require_libaio()
        settings.append(SEVERAL)
    reference, _ = train_small(folders, f"plain-{strategy}", "objective=rwr", "trainer.validate_every=6")
    done = command(["train.py", *SMALL, *folders, f"name={strategy}", *settings], timeout=1800)  # on first use it compiles
    whole = Path(last_json(done)["run_dir"])
    assert column(whole, "train/loss") == pytest.approx(column(reference, "train/loss"), rel=1e-4)
    assert column(whole, "grad_norm")[0] == pytest.approx(column(reference, "grad_norm")[0], rel=1e-5)
    assert not (whole / "offload").exists(), "what was offloaded is cleared away"
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step-00000006")
    (cut / "result.json").unlink()
    shutil.rmtree(cut / "model")
    assert last_json(command(["train.py", f"resume={cut}"]))["steps"] == 6
    assert largest_difference(whole, cut) == 0
    assert column(cut, "train/loss") == column(whole, "train/loss")

"""Checkpoints are complete or absent; damage is noticed, named and gone round; a full disk costs nothing that was saved."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rfr.errors import UserError
from rfr.runs.folder import load
from rfr.train.checkpoints import checkpoints, find_damage, latest_intact, write_manifest
from rfr.train.recipe import Recipe
from rfr.train.run import train
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, largest_difference, train_small


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (lambda folder: _flip(folder / "state"), "state has changed"),
    "cut off": (lambda folder: os.truncate(folder / "state", 1000), "state has 1,000 bytes, not"),
    "missing": (lambda folder: (folder / "state").unlink(), "state is missing"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing"),
    "a manifest of nonsense": (lambda folder: (folder / "manifest.json").write_text("[1]"), r"manifest\.json can't be read"),
}


@pytest.fixture(scope="module")
def finished(folders: list[str]) -> Path:
    return train_small(folders, "finished", "trainer.keep_checkpoints=3", "trainer.checkpoint_every=2")[0]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    finished: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    (run_dir / "result.json").unlink()
    saved = checkpoints(run_dir / "checkpoints")
    assert [path.name for path in saved] == ["step-00000002", "step-00000004", "step-00000006"]
    spoil, message = DAMAGES[kind]
    spoil(saved[-1])
    assert latest_intact(run_dir / "checkpoints") == saved[-2]
    assert re.search(rf"step-00000006 is damaged \({message}.*\): trying the one before it", capsys.readouterr().out)
    train(Recipe.of(load(run_dir)), run_dir)
    assert largest_difference(finished, run_dir) == 0
    assert column(run_dir, "train/loss") == column(finished, "train/loss")
    assert find_damage(checkpoints(run_dir / "checkpoints")[-1]) is None, "it was saved again"


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_anew_in_silence(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    for path in checkpoints(tmp_path / "checkpoints"):
        _flip(path / "state")
    with pytest.raises(UserError, match="no intact checkpoint in"):
        latest_intact(tmp_path / "checkpoints")
    assert latest_intact(tmp_path / "none") is None


def test_a_sealed_folder_of_several_files_is_whole(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for rank in range(2):
        (tmp_path / "shards" / f"{rank}.pt").write_bytes(bytes(rank) * 5)
    (tmp_path / "latest").write_text("shards")
    write_manifest(tmp_path)
    assert find_damage(tmp_path) is None
    (tmp_path / "shards" / "0.pt").write_bytes(b"x")
    assert find_damage(tmp_path) == "shards/0.pt has 1 bytes, not 0"


FULL = """
set -e
mount -t tmpfs -o size={size}k none {place}
{command} || code=$?
cp -r {place}/runs {kept}
exit ${{code:-0}}
"""


@pytest.mark.slow
def test_a_full_disk_ends_with_the_last_checkpoint_intact(folders: list[str], finished: Path, tmp_path: Path) -> None:
    """A real file system of its own that has room for one checkpoint and not for two."""
    unshare = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("SKIPPED LOUDLY: this machine lets nobody mount anything, not even for himself")
    (tmp_path / "disk").mkdir()
    one = sum(path.stat().st_size for path in checkpoints(finished / "checkpoints")[-1].iterdir()) // 1024
    arguments = ["train.py", *SMALL, folders[0], f"runs_dir={tmp_path}/disk/runs", "name=full", "trainer.checkpoint_every=2"]
    script = FULL.format(
        size=one + one // 2 + 100, place=tmp_path / "disk", kept=tmp_path / "kept",
        command=" ".join(f"'{word}'" for word in [sys.executable, *arguments]),
    )  # fmt: skip
    done = subprocess.run([*unshare, "sh", "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=300)
    assert done.returncode == 2, done.stderr[-2000:]
    assert re.search(r"rfr: can't write the checkpoint step-00000004 .*; step-00000002 is whole, so make room", done.stderr)
    assert "Traceback" not in done.stderr
    run_dir = tmp_path / "kept" / "full"
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-00000002"]
    train(Recipe.of(load(run_dir)), run_dir)
    assert largest_difference(finished, run_dir) == 0

"""The wheel carries the configs and the console scripts, and works from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    wheels, site, empty = tmp_path / "wheels", tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)], check=True)
    (wheel,) = wheels.glob("rfr-*.whl")
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    env = {**os.environ, "PYTHONPATH": str(site)}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(site / "bin" / command[0]), *command[1:]],
            cwd=empty, env=env, text=True, capture_output=True, check=True, timeout=300,
        )  # fmt: skip

    where = subprocess.run(
        [sys.executable, "-c", "import rfr.cli; print(rfr.cli.CONF)"],
        cwd=empty,
        env=env,
        text=True,
        capture_output=True,
        check=True,
    )
    assert where.stdout.strip() == str(site / "rfr" / "conf")
    assert "groups" in run("rfr-train", "--help").stdout
    assert "n_layer: 48" in run("rfr-train", "model=gpt2-xl", "schedule=cosine", "--cfg", "job").stdout
    assert '"post": 5' in run("rfr-collect", "source=demo", "source.demo.threads=5").stdout
    assert (empty / "data" / "rfr_demo.db").exists()
    for script in ("rfr-generate", "rfr-evaluate"):
        assert "groups" in run(script, "--help").stdout or "keys" in run(script, "--help").stdout


def test_an_interrupted_install_is_taken_up_again(tmp_path: Path) -> None:
    """The marker comes last: pip fails at first (as when it is cut off), then works."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / ".venv" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    fake.write_text('#!/bin/sh\ncase "$*" in *pip*) [ -e online ];; esac\n')
    fake.chmod(0o755)

    def setup() -> int:
        return subprocess.run(["make", "setup"], cwd=tmp_path, capture_output=True, check=False).returncode

    assert setup() != 0
    assert not (tmp_path / ".venv" / ".ready").exists()
    (tmp_path / "online").touch()
    assert setup() == 0
    assert (tmp_path / ".venv" / ".ready").exists()


@pytest.mark.parametrize("missing", ["hydra", "torch"])
def test_a_module_that_an_interrupted_install_left_out_is_named(tmp_path: Path, missing: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{missing!r}] = None")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "model=tiny", "corpus=demo", "corpus.demo.threads=3", "name=x"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"the module {missing}" in done.stderr
    assert "make setup" in done.stderr

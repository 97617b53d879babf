"""The wheel carries the configs and the console scripts, and works from an empty folder."""

from __future__ import annotations

import os
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

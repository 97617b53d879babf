"""Imports real stories and runs rfr's commands on them, for benchmarks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.lib.report import ROOT

TABLE = ROOT.parent / "shared" / "data" / "writingprompts.jsonl.gz"


def imported(stories: Path, folder: Path) -> Path:
    """A store of the stories in the folder; it is complete or absent."""
    store, partial = folder / "stories.db", folder / "partial.db"
    if not store.exists():
        run("collect.py", "source=table", f"source.path={stories}", f"store={partial}")
        partial.rename(store)
    return store


def train(folder: Path, name: str, settings: list[str]) -> None:
    """Train a run, or go on with it where it has begun."""
    begun = (folder / name / "config.yaml").exists()
    run("train.py", *([f"resume={folder / name}"] if begun else [*settings, f"name={name}"]))


def run(*arguments: str) -> None:
    """Run one of rfr's commands, which says itself what went wrong."""
    if (code := subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode) != 0:
        raise SystemExit(code)

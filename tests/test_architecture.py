"""The arrows of the design: a stage imports the records and nothing downstream; collecting imports no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

# What a stage may import besides itself.
ALLOWED = {
    "ranges": set(), "records": set(), "errors": set(), "grammar": set(), "simulate": {"records", "grammar", "ranges"},
    "schema": set(), "arrow": set(), "utils": {"errors"},
    "insertion": {"records"},
    "store_file": {"records", "errors", "schema"},
    "store": {"records", "errors", "insertion", "store_file"},
    "reddit": {"records", "errors", "ranges", "store", "simulate", "rejects", "terminal"},
    "data": {"records", "errors", "ranges", "store", "arrow", "utils"},
    "reward": {"records", "errors", "ranges", "grammar", "simulate"}, "objective": {"records", "errors", "ranges"},
    "memory": set(), "ranks": {"errors"}, "runs": {"errors"},
    "files": set(), "outcome": {"errors", "files"}, "orphans": set(), "wandb": {"errors"},
    "compare": {"config", "errors", "outcome", "report"}, "train": {"data", "errors", "model", "ranges", "utils"},
    "model": {"records", "errors", "ranges", "objective", "memory", "ranks"}, "generate": {"data", "model", "ranges"},
    "evaluate": {"records", "errors", "ranges", "objective", "data", "model", "reward"},
    "material": {"data", "objective", "reward"}, "reference": {"data", "evaluate", "model"},
    "report": {"errors", "files", "terminal", "utils"}, "terminal": set(),
    "rejects": {"store"}, "display": {"utils"}, "fragments": {"utils"},
    "parts": {"records", "store", "reddit", "errors", "rejects"},
    "export": {"records", "store", "arrow"},
    "status": {"store", "reddit", "report"}, "leftovers": {"errors", "fragments"},
    "purge": {"records", "ranges", "store", "reddit", "export", "fragments", "leftovers", "parts", "rejects"},
}  # fmt: skip


def _imports(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    names = [n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module and n.module.startswith("rfr.")]
    return {name.split(".")[1] for name in names}


def test_every_arrow_points_one_way() -> None:
    checked = 0
    for stage, allowed in ALLOWED.items():
        files = [ROOT / f"rfr/{stage}.py"] if (ROOT / f"rfr/{stage}.py").exists() else list((ROOT / "rfr" / stage).glob("*.py"))
        assert files, stage
        for path in files:
            checked += 1
            assert _imports(path) - {stage} <= allowed, f"{path.name} imports {_imports(path) - allowed - {stage}}"
    assert checked > 25


def test_only_the_commands_instantiate() -> None:
    users = {path.name for path in (ROOT / "rfr").rglob("*.py") if "hydra.utils import instantiate" in path.read_text()}
    assert users == {
        "build.py", "policy.py", "run.py", "assess.py", "collect.py", "karma_report.py", "policy_report.py", "preview.py"
    }  # fmt: skip


def test_collecting_imports_no_torch() -> None:
    code = "import sys, rfr.commands.collect, rfr.cli, rfr.collect.sources, rfr.reddit.passes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_entry_scripts_are_short() -> None:
    for name in ("train", "collect", "generate", "evaluate"):
        assert len((ROOT / f"{name}.py").read_text().splitlines()) <= 25


def test_files_stay_small() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "rfr").rglob("*.py")}
    assert len(long) > 30
    assert not {name: lines for name, lines in long.items() if lines > 250}

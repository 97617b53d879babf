"""The plan of the house: which room may import which, no circles, no file name twice; collecting imports no torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "rfr"
GROUND = {"errors", "records", "ranges"}  # every room may import these
# A room, or a file in the root, and the rooms that it may import.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(), "errors": set(), "records": set(), "ranges": set(),
    "utils": set(), "reward": set(), "optimizer": set(), "store": {"utils"}, "loggers": {"utils"}, "model": {"utils"},
    "config": {"utils"}, "report": {"utils"}, "runs": {"config", "utils"}, "strategy": {"model", "utils"}, "reddit": {"store"},
    "data": {"store", "utils"}, "collect": {"reddit", "store", "utils"}, "objective": {"data", "reward"},
    "generation": {"data", "model", "utils"}, "evaluate": {"data", "generation", "model", "objective", "reward", "utils"},
    "rollouts": {"data", "evaluate", "generation", "objective", "utils"},
    "demo": {"collect", "reddit", "reward", "store", "utils"},  # and nobody imports demo
    "train": {"config", "data", "evaluate", "generation", "loggers", "model", "objective", "optimizer", "reward",
              "rollouts", "runs", "strategy", "utils"},
    "commands": {"collect", "config", "data", "evaluate", "generation", "loggers", "model", "objective", "optimizer", "reddit",
                 "report", "reward", "rollouts", "runs", "store", "strategy", "train", "utils"},
    "sweep": {"commands", "config", "runs", "train", "utils"},
    "cli": {"commands", "config", "reddit", "utils"},
}  # fmt: skip


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """The modules of rfr that a file imports, dotted, without `rfr.`."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "rfr":
            modules |= {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rfr."):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {name for name in inner if _file(name.removeprefix("rfr.")).exists()} or {node.module}
            modules |= {name.removeprefix("rfr.") for name in files}
        elif isinstance(node, ast.Import):
            modules |= {alias.name.removeprefix("rfr.") for alias in node.names if alias.name.startswith("rfr.")}
    return modules


def _file(module: str) -> Path:
    path = PACKAGE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_is_on_the_plan() -> None:
    assert {_room(path) for path in FILES} == set(ALLOWED)
    assert len(FILES) > 150


@pytest.mark.parametrize("room", ALLOWED)
def test_every_arrow_points_one_way(room: str) -> None:
    for path in (path for path in FILES if _room(path) == room):
        rooms = {module.split(".")[0] for module in _imports(path)} - {room, *(GROUND if room not in GROUND else ())}
        assert rooms <= ALLOWED[room], f"{path.relative_to(ROOT)} imports {', '.join(sorted(rooms - ALLOWED[room]))}"


def test_the_credentials_are_all_of_reddit_that_the_command_line_knows() -> None:
    assert {module for module in _imports(PACKAGE / "cli.py") if module.startswith("reddit")} == {"reddit.credentials"}


def test_no_file_imports_itself_around_a_corner() -> None:
    arrows = {path: {_file(module) for module in _imports(path)} - {path} for path in FILES}
    assert len(list(TopologicalSorter(arrows).static_order())) == len(FILES)  # raises CycleError


def test_no_file_name_occurs_twice() -> None:
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_the_page_on_the_architecture_is_true() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in (path for path in FILES if path.name != "__init__.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, f"{path} has no docstring"
        assert f"| `{path.name}` | {docstring.partition(chr(10) * 2)[0].replace(chr(10), ' ')} |" in page
    assert set(re.findall(r"^\| `(\w+\.py)` \|", page, re.MULTILINE)) == {
        path.name for path in FILES if path.name != "__init__.py" or path.parent == PACKAGE
    }
    arrows = {room: set(re.findall(r"`(\w+)`", may)) for room, may in re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE)}
    assert arrows == {room: may for room, may in ALLOWED.items() if room not in (*GROUND, "__init__")}
    for name in re.findall(r"`((?:rfr/)?[a-z]+/[\w/]*(?:\.py)?)`", page.partition("## Who may import whom")[0]):
        assert (ROOT / name).exists() or (PACKAGE / name).exists(), f"there is no {name}"


def test_the_root_has_six_files_at_most() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_configs_become_objects_in_four_places() -> None:
    users = {str(path.relative_to(PACKAGE)) for path in FILES if "hydra.utils import instantiate" in path.read_text()}
    assert users == {"train/recipe.py", "commands/collect.py", "commands/generate.py", "commands/evaluate.py"}


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

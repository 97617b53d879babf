"""README and docs tell the truth: commands run, the table of groups is the config's, nothing outside the clone is named."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from rfr import config
from tests.conftest import ROOT

README, TOUR, CONFIG = (ROOT / name for name in ("README.md", "docs/tour.md", "docs/config.md"))
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- test: compose -->\n)?```bash\n(.*?)```", re.DOTALL)


def _blocks(page: Path) -> list[tuple[bool, list[str]]]:
    """The shell blocks of a page: whether its commands are only composed, and its lines."""
    matches = BLOCK.finditer(page.read_text())
    return [(bool(match[1]), [line for line in match[2].splitlines() if line]) for match in matches]


# Commands of the README and the tour run, unless their block says that they need more than this machine has.
RUN = {page: [line for composed, lines in _blocks(page) if not composed for line in lines] for page in (README, TOUR)}
COMPOSED = [
    line for page in PAGES for composed, lines in _blocks(page) if composed for line in lines if line.startswith("python ")
]


def test_every_block_was_found() -> None:
    for page in PAGES:
        assert len(_blocks(page)) == page.read_text().count("```bash")
    assert len(RUN[README]) >= 6
    assert len(RUN[TOUR]) >= 12
    assert len(COMPOSED) >= 20


def test_commands_that_need_more_than_this_machine_compose() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for line in COMPOSED:
            _, script, *overrides = shlex.split(line.replace(" -m ", " "), comments=True)
            for point in _points(overrides) if " -m " in line else [overrides]:
                assert config.resolve(compose(script.removesuffix(".py"), list(point)))


def _points(overrides: list[str]) -> list[tuple[str, ...]]:
    """Every point of a multirun."""
    choices = [(key, values.split(",")) for key, _, values in (override.partition("=") for override in overrides)]
    return list(product(*([f"{key}={value}" for value in values] for key, values in choices)))


def test_the_table_of_groups_is_the_configs() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", CONFIG.read_text(), re.MULTILINE)
    documented = {group: set(re.findall(r"`([^`]+)`", choices)) for group, choices in rows}
    there = {
        folder.name: {path.stem for path in folder.glob("*.yaml")}
        for folder in (ROOT / "conf").iterdir()
        if folder.is_dir() and folder.name not in ("_base", "_help", "trainer")
    }
    assert documented == there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_nothing_outside_the_clone(page: Path) -> None:
    text = page.read_text()
    assert "../" not in text
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp|opt)\b", text)
    named = set(re.findall(r"`((?:bench|conf|docs|rfr|sweep|tests)/[\w./-]+)`", text))
    assert [name for name in named if not (ROOT / name).exists()] == []
    targets = set(re.findall(r"`make ([a-z0-9-]+)`", text))
    assert targets <= set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_five_line_table_comes_in_by_its_one_command(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (table,) = re.findall(r"```csv\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(table.splitlines()) == 5
    (tmp_path / "stories.csv").write_text(table)
    line = next(line for line in COMPOSED if "stories.csv" in line)
    code, out, err = command("collect", *shlex.split(line)[2:])
    assert code == 0
    assert f"{out}{err}" in README.read_text(), "as it is printed"


@pytest.mark.slow
def test_the_commands_of_readme_and_tour_run_as_written(tmp_path: Path) -> None:
    """One after the other in one folder, those that both have once: the tour begins as the README does."""
    for script in ("train", "collect", "generate", "evaluate"):
        (tmp_path / f"{script}.py").symlink_to(ROOT / f"{script}.py")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line in dict.fromkeys([*RUN[README], *RUN[TOUR]]):
        done = subprocess.run(
            line,
            shell=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            text=True,
            capture_output=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
    assert len(list((tmp_path / "runs/rewarded/reports").glob("rfr_demo-*/report.html"))) == 1
    assert len(list((tmp_path / "runs/rewarded/reports").glob("rfr_demo-*/evaluation.json"))) == 1
    assert (tmp_path / "runs/look.html").exists()
    assert len(list((tmp_path / "runs").glob("sweep-*/*/result.json"))) == 4

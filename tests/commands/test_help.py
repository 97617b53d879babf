"""`--help` prints the stored text, which must be what Hydra composes."""

from pathlib import Path

import pytest

from rfr.commands import help as help_page
from rfr.commands.help import COMMANDS, print_help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_stored_help_is_what_hydra_composes(name: str) -> None:
    stored = help_page._path(name).read_text()
    assert stored == f"{help_page._checksum()}\n{help_page._compose(name, [])}", "run python -m rfr.commands.help"


def test_help_without_overrides_composes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(help_page, "_compose", lambda *_: pytest.fail("Hydra was asked"))
    print_help("train", [])
    assert "groups (* is chosen):" in capsys.readouterr().out


def test_overrides_show_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    print_help("collect", ["mode=purge"])
    assert "*purge" in capsys.readouterr().out


def test_a_changed_config_shows_in_the_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "collect.txt"
    stale.write_text(f"{'0' * 64}\nthe text of other configs")
    monkeypatch.setattr(help_page, "_path", lambda _: stale)
    print_help("collect", [])
    assert "the text of other configs" not in capsys.readouterr().out

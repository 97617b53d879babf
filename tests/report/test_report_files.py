"""An evaluation's place is looked at before the work, and no report replaces one about something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rfr.errors import RunFailed, UserError
from rfr.report import report_files
from rfr.report.report_files import ABOUT, require_place, write_report

MINE, OTHER = {"model": "model", "corpus": "data/a.db"}, {"model": "model", "corpus": "data/b.db"}


def _report(folder: Path, about: object) -> None:
    (folder / "evaluation.json").write_text(json.dumps({ABOUT: about, "nll": 1.0}))


def test_a_report_about_something_else_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _report(tmp_path, OTHER)
    with pytest.raises(
        UserError, match=r"is about model model, corpus data/b.db, not model model, corpus data/a.db: give another"
    ):
        require_place(tmp_path, "evaluation.json", MINE)
    assert capsys.readouterr().out == ""
    require_place(tmp_path, "evaluation.json", OTHER)
    assert capsys.readouterr().out.endswith("evaluation.json of an unknown date will be replaced; out=... keeps both\n")
    require_place(tmp_path, "karma.json", MINE)


@pytest.mark.parametrize("content", ["{}", "[1]", "{", '{"about": 3}'])
def test_a_report_without_a_subject_is_named_before_it_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    require_place(tmp_path, "evaluation.json", MINE)
    assert "does not say what it is about: it will be replaced" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^can't write to .*file/out \(Not a directory\): give another folder, out="):
        require_place(tmp_path / "file" / "out", "evaluation.json", MINE)
    require_place(tmp_path / "new" / "out", "evaluation.json", MINE)
    assert not (tmp_path / "new").exists()


def test_a_disk_that_fills_up_leaves_no_half_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_files, "write_atomically", full)
    with pytest.raises(RunFailed, match=r"No space left on device.*the results stand above"):
        write_report(tmp_path, {"evaluation.json": "{}"})
    assert list(tmp_path.iterdir()) == []

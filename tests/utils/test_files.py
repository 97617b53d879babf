"""Files and folders that are complete or absent."""

import errno
import shutil
from pathlib import Path

import pytest

from rfr.utils.files import discard, new_file, new_folder, partial_of, write_atomically


def _write(path: Path, text: str, *, is_folder: bool) -> None:
    if is_folder:
        with new_folder(path) as partial:
            (partial / "text").write_text(text)
    else:
        with new_file(path) as partial:
            partial.write_text(text)


def _read(path: Path) -> str:
    return (path / "text" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_complete_file_replaces_the_old_one(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "made"
    for text in ("first", "second"):
        _write(path, text, is_folder=is_folder)
        assert _read(path) == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path, is_folder: bool, error: type[BaseException]) -> None:
    path = tmp_path / "made"
    _write(path, "first", is_folder=is_folder)
    with pytest.raises(error), (new_folder if is_folder else new_file)(path) as partial:
        (partial / "text" if is_folder else partial).write_text("half")
        raise error
    assert _read(path) == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_folder", [False, True])
def test_files_of_a_killed_writer_are_not_mixed_with_new_ones(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "made"
    partial_of(path).mkdir()
    (partial_of(path) / "left").write_text("of a process that was killed")
    _write(path, "first", is_folder=is_folder)
    assert _read(path) == "first"
    assert not path.is_dir() or [file.name for file in path.iterdir()] == ["text"]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "text").write_text("a user's")
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "made", "text")
    assert _read(tmp_path / "made") == "a user's"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_clean_up_that_fails_does_not_hide_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: Path) -> None:
        raise OSError(errno.EBUSY, "busy")

    with pytest.raises(OSError, match="No space"), new_folder(tmp_path / "made"):
        monkeypatch.setattr(shutil, "rmtree", busy)
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_link_in_a_discarded_folder_does_not_lead_to_the_loss_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a user's")
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "link").symlink_to(tmp_path / "kept")
    discard(tmp_path / "partial")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "a user's"


def test_a_discarded_file_gives_its_space_back_though_it_is_open(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        file.write("text")
        file.flush()
        discard(tmp_path / "open")
        assert file.seek(0, 2) == 0
    assert not (tmp_path / "open").exists()
    discard(tmp_path / "absent")

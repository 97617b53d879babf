"""Exit codes: 2 for what the user can mend, 1 for a fault, which says where to report it."""

import errno
import sqlite3
from functools import partial
from typing import Any

import pytest
from hydra.utils import instantiate

from rfr.errors import Interrupted, RunFailed, UserError
from rfr.utils.exits import FAULT, exit_code


def _raise(error: BaseException) -> None:
    raise error


def _raise_in_a_constructor(error: BaseException) -> Any:
    return instantiate({"_target_": "tests.utils.test_exits._raise", "error": error})


MENDED = [
    (UserError("seed must be\na whole number"), "seed must be; a whole number"),
    (OSError(errno.ENOSPC, "No space left on device", "x.db"), "No space left on device: x.db could not be written whole"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "No such file or directory: x"),
    (sqlite3.DatabaseError("bad"), "the store can't be used (bad): is it damaged, or locked by another program?"),
    (ModuleNotFoundError("", name="zstd"), "the module zstd is missing, the installation is not whole: run `make setup`"),
]
FAULTS = [
    ValueError("a library's"),
    KeyError("key"),
    ModuleNotFoundError("", name="rfr.x"),
    sqlite3.IntegrityError("x"),
    OSError("x"),
]


@pytest.mark.parametrize(("error", "line"), MENDED)
@pytest.mark.parametrize("raised", [_raise, _raise_in_a_constructor])
def test_a_users_error_is_one_line_and_exit_code_2(
    error: Exception, line: str, raised: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(partial(raised, error)) == 2
    assert capsys.readouterr().err == f"rfr: {line}\n"


@pytest.mark.parametrize("error", FAULTS)
@pytest.mark.parametrize("raised", [_raise, _raise_in_a_constructor])
def test_a_fault_shows_its_traceback_and_where_to_report_it(
    error: Exception, raised: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(partial(raised, error)) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith(f"{FAULT}\n")


def test_a_key_that_a_class_does_not_know_is_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: instantiate({"_target_": "tests.utils.test_exits._raise", "wrong": 1})) == 2
    assert "unexpected keyword argument 'wrong'" in capsys.readouterr().err
    assert exit_code(lambda: _raise(TypeError("unexpected keyword argument"))) == 1, "outside a constructor it is a fault"


def test_debugging_shows_where_a_users_error_was_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RFR_DEBUG", "1")
    assert exit_code(lambda: _raise(UserError("wrong"))) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("rfr: wrong\n")


@pytest.mark.parametrize(
    ("stop", "code"),
    [(Interrupted("resume=x goes on"), 130), (KeyboardInterrupt(), 130), (RunFailed("no memory", 7), 7), (BrokenPipeError(), 0)],
)
def test_stops_have_codes_of_their_own(stop: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert exit_code(lambda: _raise(stop)) == code

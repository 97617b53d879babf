"""One folder, one writer: whoever comes second is told who holds it, and touches nothing."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rfr.errors import UserError
from rfr.runs import lock
from rfr.runs.lock import run_lock
from tests.conftest import ROOT

HOLD = (
    "import sys, time; from pathlib import Path; from rfr.errors import UserError; from rfr.runs.lock import run_lock\n"
    "try:\n"
    "    with run_lock(Path(sys.argv[1])):\n"
    "        print('held', flush=True); time.sleep(float(sys.argv[2]))\n"
    "except UserError as error:\n"
    "    sys.exit(f'{error}')\n"
)


def _holder(run_dir: Path, seconds: float) -> subprocess.Popen:
    arguments = [sys.executable, "-c", HOLD, str(run_dir), str(seconds)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _held(run_dir: Path, seconds: float = 30) -> subprocess.Popen:
    holder = _holder(run_dir, seconds)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    holder = _held(tmp_path / "run")
    here, when = re.escape(socket.gethostname()), r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
    who = f"run is being trained by process {holder.pid} on {here} since {when}: wait for it to end, or set name="
    with pytest.raises(UserError, match=who), run_lock(tmp_path / "run"):
        pytest.fail("held twice")
    assert not (tmp_path / "run").exists()
    holder.kill()
    holder.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_goes_with_its_holder(tmp_path: Path, number: signal.Signals) -> None:
    holder = _held(tmp_path / "run")
    holder.send_signal(number)
    holder.communicate()
    with run_lock(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_of_ten_processes_holds_the_lock(tmp_path: Path) -> None:
    both = [_holder(tmp_path / "run", 4) for _ in range(10)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert sorted(process.returncode for process in both) == [0] + [1] * 9
    assert sum("held" in out for out, _ in outputs) == 1
    assert sum("is being trained by" in err for _, err in outputs) == 9
    assert list(tmp_path.iterdir()) == []


def test_children_of_a_killed_holder_are_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import os, subprocess, sys; from pathlib import Path; from rfr.runs.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1])) as lock:\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(2)'], pass_fds=[lock], stdout=-3)\n"
        "    print('held', flush=True); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT, check=False, stdout=subprocess.PIPE)
    began = time.monotonic()
    with run_lock(tmp_path / "run"):
        assert time.monotonic() - began > 0.5
    assert capsys.readouterr().out.count("waiting for the processes of one that was killed") == 1


def test_a_folder_that_was_made_for_it_goes_with_it(tmp_path: Path) -> None:
    with run_lock(tmp_path / "runs" / "sweep" / "run"):
        assert [path.name for path in (tmp_path / "runs" / "sweep").iterdir()] == [".run.lock"]
    assert list(tmp_path.iterdir()) == []
    with run_lock(tmp_path / "runs" / "sweep" / "run"):
        (tmp_path / "runs" / "sweep" / "run").mkdir()
    assert (tmp_path / "runs" / "sweep" / "run").exists()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with run_lock(tmp_path / "run"):
        assert "files can't be locked" in capsys.readouterr().out


def test_another_machines_holder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that machines share; whether its process lives can't be seen from here."""
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "elsewhere")
    with run_lock(tmp_path / "run"):
        monkeypatch.setattr(lock.socket, "gethostname", lambda: "here")
        with pytest.raises(UserError, match="on elsewhere since"), run_lock(tmp_path / "run"):
            pytest.fail("held twice")

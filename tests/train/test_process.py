"""A training in a process tree of its own: one at a time per folder, its failure on record, no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rfr.errors import Interrupted, RunFailed
from rfr.runs.lock import run_lock
from rfr.runs.outcome import FAILED, FINISHED, INTERRUPTED, NEW, failure_of, record_failure, record_result, result_of, state_of
from rfr.train import process
from rfr.train.watchdog import mark_parent
from tests.conftest import ROOT

CONFIG = {"trainer": {"ranks": 1}}


def _stands_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """For what the child would do: `run_dir` is known to it."""
    real = subprocess.Popen

    def popen(arguments: list[str], **options: object) -> subprocess.Popen:
        start = f"import os, signal, time; run_dir = {arguments[-1]!r}; "
        return real([sys.executable, "-c", start + code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(process.subprocess, "Popen", popen)


def _train(run_dir: Path) -> None:
    with run_lock(run_dir) as lock:
        process.train_in_child(CONFIG, run_dir, lock, again="start it again")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed, as the system does when memory runs out"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("os._exit(7)", "exit code 7"),
    ],
)
def test_how_a_child_ended_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, why: str) -> None:
    _stands_in(monkeypatch, f"os.mkdir(run_dir); {code}")
    with pytest.raises(RunFailed) as failed:
        _train(tmp_path / "run")
    assert failed.value.code == (7 if "7" in code else 1)
    assert failure_of(tmp_path / "run") == why
    assert state_of(tmp_path / "run") == FAILED


def test_how_it_ends_after_its_result_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two ranks, one may be aborted by its libraries when all is done."""
    _stands_in(monkeypatch, "os.mkdir(run_dir); open(run_dir + '/result.json', 'w').write('{}'); os.abort()")
    _train(tmp_path / "run")
    assert failure_of(tmp_path / "run") is None
    assert state_of(tmp_path / "run") == FINISHED


@pytest.mark.parametrize(
    ("code", "ended"),
    [("pass", 0), ("sys.exit(130)", 130), ("os.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(60)", -9)],
)
def test_several_ranks_end_as_the_first_that_failed_and_quietly(tmp_path: Path, code: str, ended: int) -> None:
    (tmp_path / "script.py").write_text(f"import os, sys, time; {code}")
    arguments = [sys.executable, "-m", "rfr.train.launch", "--standalone", "--nproc-per-node=2", str(tmp_path / "script.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (ended, "")


def test_the_childs_own_message_is_the_reason(tmp_path: Path) -> None:
    def train() -> None:
        raise MemoryError("no room for 7 bytes\nand more")

    with pytest.raises(MemoryError):
        process._record_failure(train, tmp_path)
    record_failure(tmp_path, "exit code 1")
    assert failure_of(tmp_path) == "MemoryError: no room for 7 bytes"


def test_a_run_that_never_began_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stands_in(monkeypatch, "os._exit(2)")
    with pytest.raises(RunFailed):
        _train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stop_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stands_in(monkeypatch, "os.mkdir(run_dir); os._exit(130)")
    with pytest.raises(Interrupted):
        _train(tmp_path / "run")
    assert failure_of(tmp_path / "run") is None
    assert state_of(tmp_path / "run") == INTERRUPTED


def test_a_new_attempt_forgets_the_old_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_of(tmp_path / "run") == NEW
    (tmp_path / "run").mkdir()
    record_failure(tmp_path / "run", "bad luck")
    assert state_of(tmp_path / "run") == FAILED
    _stands_in(monkeypatch, f"open(run_dir + '/{process.RESULT}', 'w').write('{{}}')")
    _train(tmp_path / "run")
    assert state_of(tmp_path / "run") == FINISHED
    assert failure_of(tmp_path / "run") is None


def test_a_result_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        record_result(tmp_path, {"steps": 6})
    assert result_of(tmp_path) is None


def test_a_process_ends_with_the_one_that_started_it() -> None:
    """However that ended, and through a process in between that knows nothing of it."""
    sleeper = (
        "from rfr.train.watchdog import exit_with_parent; import time\n"
        "exit_with_parent(); print('up', flush=True); time.sleep(60)"
    )
    between = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])"
    starter = (
        "import os, subprocess, sys; from rfr.train.watchdog import mark_parent\n"
        "env = dict(os.environ); mark_parent(env)\n"
        f"subprocess.Popen([sys.executable, '-c', {between!r}], env=env).wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    left = psutil.Process(process.pid).children(recursive=True)
    assert len(left) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(left, timeout=10)[1]


def test_another_process_with_the_same_id_is_not_the_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    mark_parent(environment)
    pid, born = environment["RFR_STARTED_BY"].split()
    from rfr.train.watchdog import _lives

    assert _lives(int(pid), float(born))
    assert not _lives(int(pid), float(born) - 100)
    assert not _lives(2**22 + 1, float(born))

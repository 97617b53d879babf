"""A training in a process tree of its own: one at a time per folder, its failure on record, no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from rfr import child
from rfr.errors import Interrupted, RunFailed
from rfr.orphans import started_by_this
from rfr.outcome import FAILED, FINISHED, INTERRUPTED, NEW, failure_of, record_failure, record_result, result_of, state_of
from tests.conftest import ROOT

CFG = OmegaConf.create({"trainer": {"ranks": 1}})


def _stands_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """For what the child would do: `run_dir` is known to it."""
    real = subprocess.Popen

    def popen(arguments: list[str], **options: object) -> subprocess.Popen:
        start = f"import os, signal, time; run_dir = {arguments[-1]!r}; "
        return real([sys.executable, "-c", start + code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(child.subprocess, "Popen", popen)


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
        child.train_in_child(CFG, tmp_path / "run")
    assert failed.value.code == (7 if "7" in code else 1)
    assert failure_of(tmp_path / "run") == why
    assert state_of(tmp_path / "run") == FAILED


def test_how_it_ends_after_its_result_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two ranks, one may be aborted by its libraries when all is done."""
    _stands_in(monkeypatch, "os.mkdir(run_dir); open(run_dir + '/result.json', 'w').write('{}'); os.abort()")
    child.train_in_child(CFG, tmp_path / "run")
    assert failure_of(tmp_path / "run") is None
    assert state_of(tmp_path / "run") == FINISHED


def test_what_the_child_says_itself_is_the_reason(tmp_path: Path) -> None:
    def train() -> None:
        raise MemoryError("no room for 7 bytes\nand more")

    with pytest.raises(MemoryError):
        child._recorded(train, tmp_path)
    record_failure(tmp_path, "exit code 1")
    assert failure_of(tmp_path) == "MemoryError: no room for 7 bytes"


def test_a_run_that_never_began_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stands_in(monkeypatch, "os._exit(2)")
    with pytest.raises(RunFailed):
        child.train_in_child(CFG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stop_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stands_in(monkeypatch, "os.mkdir(run_dir); os._exit(130)")
    with pytest.raises(Interrupted):
        child.train_in_child(CFG, tmp_path / "run")
    assert failure_of(tmp_path / "run") is None
    assert state_of(tmp_path / "run") == INTERRUPTED


def test_a_new_attempt_forgets_the_old_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_of(tmp_path / "run") == NEW
    (tmp_path / "run").mkdir()
    record_failure(tmp_path / "run", "bad luck")
    assert state_of(tmp_path / "run") == FAILED
    _stands_in(monkeypatch, f"open(run_dir + '/{child.RESULT}', 'w').write('{{}}')")
    child.train_in_child(CFG, tmp_path / "run")
    assert state_of(tmp_path / "run") == FINISHED
    assert failure_of(tmp_path / "run") is None


def test_a_result_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        record_result(tmp_path, {"steps": 6})
    assert result_of(tmp_path) is None


def test_one_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    """Whoever comes second waits, and finds it finished."""
    order = tmp_path / "order"
    code = (
        "import sys, time; from pathlib import Path; from rfr import child; from omegaconf import OmegaConf\n"
        "def run(cfg, run_dir, at_once, lock):\n"
        f"    open({str(order)!r}, 'a').write('trained\\n'); time.sleep(1.5); run_dir.mkdir()\n"
        "    (run_dir / 'result.json').write_text('{}'); return 0\n"
        "child._run = run\n"
        f"child.train_in_child(OmegaConf.create({{'trainer': {{'ranks': 1}}}}), Path({str(tmp_path / 'run')!r}))\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = "".join(process.communicate(timeout=60)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert order.read_text() == "trained\n"
    assert "waiting for it" in told
    assert "was finished by another process" in told


def test_the_lock_is_the_childs_too(tmp_path: Path) -> None:
    """A sweep that was killed and started again waits for the child of the killed one."""
    with child._locked(tmp_path / "run") as lock:
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"], pass_fds=[lock])
    began = time.monotonic()
    with child._locked(tmp_path / "run"):
        assert time.monotonic() - began > 0.5
        assert left.wait(timeout=5) == 0


def test_a_process_ends_with_the_one_that_started_it() -> None:
    """However that ended, and through a process in between that knows nothing of it."""
    sleeper = "from rfr.orphans import end_with_starter; import time; end_with_starter(); print('up', flush=True); time.sleep(60)"
    between = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])"
    starter = (
        "import os, subprocess, sys; from rfr.orphans import started_by_this; env = dict(os.environ); started_by_this(env)\n"
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
    started_by_this(environment)
    pid, born = environment["RFR_STARTED_BY"].split()
    from rfr.orphans import _lives

    assert _lives(int(pid), float(born))
    assert not _lives(int(pid), float(born) - 100)
    assert not _lives(2**22 + 1, float(born))

"""Credentials are nowhere to be read afterwards, whatever failed: not in logs, tracebacks with locals, output, or the store."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpraw
import pytest
import zstandard

from rfr.demo.fake_reddit import FakeReddit
from rfr.demo.faults import Fault, Faults, answers, cuts_body, resets
from rfr.demo.subreddit import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.reddit.client import connect
from rfr.reddit.clock import FastClock
from rfr.reddit.crawler import Crawler
from rfr.reddit.passes import crawl_once
from rfr.store.store import Store
from tests.conftest import ROOT
from tests.helpers.traces import traces

THREADS = list(DemoSubreddit(threads=12))[-6:]
CLIENT, SECRET, TOKEN, PASSWORD = "CANARY-id-x7Qp2m", "CANARY-secret-+/&=%9z", "CANARY-token-b8Lw0k", "CANARY-pass-\u00e9\u2603"
NEEDLES = (CLIENT, SECRET, TOKEN, PASSWORD, f"{CLIENT}:{SECRET}")
FAILURES: dict[str, Callable[[], Fault]] = {
    "400": lambda: answers(400, '{"error": "invalid_grant"}'),
    "401": lambda: answers(401),
    "403": lambda: answers(403),
    "404": lambda: answers(404),
    "429": lambda: answers(429, retry_after="9"),
    "500": lambda: answers(500),
    "302": lambda: answers(302, location="/subreddits/search"),
    "HTML": lambda: answers(200, "<html>busy</html>"),
    "an error object": lambda: answers(200, '{"error": "unsupported_grant_type"}'),
    "a list": lambda: answers(200, "[]"),
    "reset": lambda: resets,
    "cut body": lambda: cuts_body,
}
PATHS = ("/api/v1/access_token", "/r/", "/comments/", "/api/info")


@pytest.fixture
def diary(tmp_path: Path) -> Iterator[Path]:
    """A folder in which every log record, down to DEBUG, is kept."""
    handler = logging.FileHandler(tmp_path / "everything.log")
    handler.setLevel(logging.DEBUG)
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    for logger in logging.Logger.manager.loggerDict.values():  # a command that ran in this process has silenced them
        if isinstance(logger, logging.Logger):
            logger.disabled = False
    yield tmp_path
    root.setLevel(before)
    root.removeHandler(handler)
    handler.close()


def _write_ini(folder: Path, url: str) -> None:
    folder.mkdir(exist_ok=True)
    ini = folder / "praw.ini"
    ini.write_text(f"[DEFAULT]\noauth_url={url}\nreddit_url={url}\n")
    ini.chmod(0o600)


def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("praw_client_id", CLIENT)
    monkeypatch.setenv("praw_client_secret", SECRET)
    monkeypatch.setenv("praw_password", PASSWORD)
    monkeypatch.setenv("praw_user_agent", "linux:canary:1 (by /u/canary)")
    monkeypatch.setattr(asyncpraw.config.Config, "CONFIG", None)  # it reads the files once per process


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("failure", FAILURES)
def test_no_failure_writes_a_secret_anywhere(
    diary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, path: str, failure: str
) -> None:
    settings = tmp_path_factory.mktemp("settings")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(settings))
    _secrets(monkeypatch)
    faults = Faults({path: [FAILURES[failure]() for _ in range(1000)]})
    fake = FakeReddit(THREADS, faults=faults)
    fake.token = TOKEN

    async def crawl() -> None:
        clock = FastClock(start=EPOCH, speed=2000)
        async with fake.serve() as url:
            _write_ini(settings, url)
            with Store(diary / "s.db", write=True) as store:
                async with connect(clock, patience_s=100) as client:
                    await crawl_once(Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=clock))

    try:
        asyncio.run(crawl())
    except Exception as error:
        with_locals = traceback.TracebackException.from_exception(error, capture_locals=True)
        (diary / "traceback.txt").write_text("".join(with_locals.format()))
        (diary / "error.txt").write_text(repr(error) + repr(vars(error)) + repr(error.__cause__))
    assert faults.left < 1000
    assert (diary / "everything.log").stat().st_size > 0
    assert traces(diary, NEEDLES) == []


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_the_command_leaves_no_secret_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, debug: str) -> None:
    fake = FakeReddit(THREADS, faults=Faults({"/r/": [answers(status)] * 99} if status != 200 else {}))
    fake.token = TOKEN
    _secrets(monkeypatch)
    settings, work = tmp_path / "settings", tmp_path / "work"
    work.mkdir()

    async def command() -> int:
        async with fake.serve() as url:
            _write_ini(settings, url)
            environment = {**os.environ, "XDG_CONFIG_HOME": str(settings), "RFR_DEBUG": debug, "PYTHONPATH": str(ROOT)}
            child = await asyncio.create_subprocess_exec(
                sys.executable, str(ROOT / "collect.py"), f"source.subreddit={SUBREDDIT}", cwd=work, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            out, err = await child.communicate()
            (work / "out.txt").write_bytes(out)
            (work / "err.txt").write_bytes(err)
            assert child.returncode is not None
            return child.returncode

    code = asyncio.run(command())
    if status == 200:
        assert code == 0
        assert json.loads((work / "out.txt").read_text().splitlines()[-1])["post"] == len(THREADS)
    else:
        assert code == 2
        assert ("Traceback" in (work / "err.txt").read_text()) == bool(debug)
    assert traces(work, NEEDLES) == []


@pytest.mark.parametrize(
    "hide",
    [
        lambda secret: secret.encode(),
        lambda secret: json.dumps({"x": secret}).encode(),
        lambda secret: quote(f"a={secret}", safe="").encode(),
        lambda secret: base64.b64encode(f"user:{secret}.".encode()),
        lambda secret: gzip.compress(secret.encode()),
        lambda secret: zstandard.compress(secret.encode()),
    ],
)
def test_the_search_would_find_them(tmp_path: Path, hide: Callable[[str], bytes]) -> None:
    for secret in (CLIENT, SECRET, TOKEN, PASSWORD):
        (tmp_path / "f").write_bytes(hide(secret))
        assert traces(tmp_path, NEEDLES) == ["f"], secret

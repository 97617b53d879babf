"""Forty threads of one's own, from import to report: of too little nothing is claimed; training names a share that is enough."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rfr.data.split import Split
from rfr.demo.subreddit import DemoSubreddit
from tests.helpers.runs import command, last_json

THREADS, REPLIES = 40, 6
CLAIMS = ("leans", "is above", "is below", "It reads its prompt", "is better", "is worse")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 stories with their karma and times."""
    rows: list[dict[str, Any]] = []
    for thread in DemoSubreddit(threads=400, seed=5):
        replies = [reply for reply in thread.replies if not reply.stickied and reply.author is not None][:REPLIES]
        if len(replies) == REPLIES and len(rows) < THREADS * REPLIES:
            rows += [
                {"post_id": thread.post.id, "title": thread.post.title, "post_created_utc": thread.post.created_utc,
                 "reply_id": reply.id, "body": reply.body, "score": thread.observations[reply.id].score,
                 "created_utc": reply.created_utc}
                for reply in replies
            ]  # fmt: skip
    assert len(rows) == THREADS * REPLIES
    path = tmp_path_factory.mktemp("table") / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _evaluated(folder: Path, name: str, *settings: str) -> tuple[dict[str, Any], str]:
    small = ["stories=24", "sampling.max_new_tokens=40", "micro_batch=8", "preprocess.fit.context_tokens=16"]
    model = folder / "runs" / name / "model"
    done = command(["evaluate.py", f"model.weights={model}", *_where(folder), *small, *settings, f"out={folder / name}"])
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / name / "evaluation.json").read_text()), done.stdout


def _where(folder: Path) -> list[str]:
    return [f"corpus.path={folder / 'own.db'}", f"data_dir={folder / 'data'}", f"runs_dir={folder / 'runs'}"]


def _trained(folder: Path, name: str, *settings: str) -> str:
    small = ["model=tiny", "model.random.n_embd=32", "model.random.n_head=2", "model.block_size=128", "logger=csv",
             "strategy=single", "precision=fp32", "preprocess.fit.context_tokens=16", "trainer.max_steps=20",
             "trainer.validate_every=20", "schedule.warmup_steps=2", "samples.prompts=0"]  # fmt: skip
    done = command(["train.py", *small, f"name={name}", *_where(folder), *settings])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_forty_threads_from_import_to_report(table: Path, tmp_path: Path) -> None:
    last_json(command(["collect.py", "source=table", f"source.path={table}", f"store={tmp_path / 'own.db'}"]))
    said = _trained(tmp_path, "default")
    held_out, share = re.search(  # type: ignore[union-attr]
        r"(\d+) held-out threads are too few for a report to claim anything, 20 are needed: "
        r"preprocess\.split\.validation_share=(0\.\d+) holds out 20",
        said,
    ).groups()
    assert 0 < int(held_out) < 20
    evaluation, out = _evaluated(tmp_path, "default")
    assert evaluation["threads"] == int(held_out)
    intervals = [row for row in evaluation["pair_accuracy"] if row["low"] is not None]
    assert all(row["threads"] >= 5 and row["low"] < row["high"] for row in intervals), "none of zero width, none of few threads"
    sentences = [line for line in out.splitlines() if line.startswith("- ")]
    assert any("oo few to tell" in line for line in sentences)
    assert [line for line in sentences if any(claim in line for claim in CLAIMS)] == []

    wider = f"preprocess.split.validation_share={share}"
    assert "are too few" not in _trained(tmp_path, "wider", wider)
    evaluation, out = _evaluated(tmp_path, "wider", wider)
    assert 20 <= evaluation["threads"] < 30
    all_pairs = [row for row in evaluation["pair_accuracy"] if row["condition"] == "all" and row["pairs"]]
    assert len(all_pairs) >= 6
    assert all(row["low"] < row["high"] for row in all_pairs)
    policy = next(row for row in evaluation["pair_accuracy"] if row["score"] == "log-likelihood" and row["ratio"] == 2
                  and row["condition"] == "length-matched")  # fmt: skip
    claims = [line for line in out.splitlines() if "it leans" in line]
    assert bool(claims) == (policy["threads"] >= 20 and not policy["low"] <= 0.5 <= policy["high"]), "claims exclude chance"

    done = command(["evaluate.py", "report=karma", *_where(tmp_path), f"out={tmp_path / 'karma'}"])
    line = last_json(done)
    assert (line["threads"], line["stories"]) == (THREADS, THREADS * REPLIES)
    report = json.loads((tmp_path / "karma" / "karma.json").read_text())
    best = report["text"]["orderings"][0]
    assert ("Karma is a reward here" in done.stdout) == (best["low"] > 0)


def test_the_share_that_is_named_holds_out_as_many() -> None:
    split, titles = Split(validation_share=0.1, salt="rfr"), [f"[WP] Prompt number {number}" for number in range(40)]
    share = split.held_out_by(titles, 20)
    assert share is not None
    wider = Split(validation_share=share, salt="rfr")
    assert 20 <= sum(wider.holds_out(title, None) for title in titles) <= 24
    narrower = Split(validation_share=share - 0.01, salt="rfr")
    assert sum(narrower.holds_out(title, None) for title in titles) < 20
    assert split.held_out_by(titles[:19], 20) is None, "no share is enough"
    assert Split(validation_share=0.1, salt="rfr", cutoff="2023-01-01").held_out_by(titles, 20) is None, "a date decides"


@pytest.mark.slow
def test_a_report_on_no_thread_says_so(tmp_path: Path) -> None:
    """A store of one thread has none to hold out, or none to train on; its karma tells nothing."""
    row = {"title": "[WP] A door.", "score": 3, "body": "The door stood in the field and nobody had the key to it. " * 3}
    (tmp_path / "one.jsonl").write_text(json.dumps(row) + "\n")
    last_json(command(["collect.py", "source=table", f"source.path={tmp_path / 'one.jsonl'}", f"store={tmp_path / 'own.db'}"]))
    done = command(["evaluate.py", "report=karma", *_where(tmp_path), f"out={tmp_path / 'karma'}"])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Too few to tell: 0 threads with two replies or more, 20 are needed." in done.stdout
    assert "Too few to tell" in (tmp_path / "karma" / "karma.html").read_text()

"""What was deleted on Reddit is erased everywhere, and stays erased."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from rfr import schema
from rfr.errors import UserError
from rfr.export import Export
from rfr.fragments import Fragments
from rfr.purge import Purge
from rfr.records import GONE, Thread
from rfr.reddit.crawler import silent
from rfr.simulate import DemoSubreddit
from rfr.store import Store
from tests.fakes import FakeSource
from tests.traces import traces

STORY = "Seventeen lanterns drifted across the harbour while Maud counted every one of her unpaid debts to the sea."
PROMPT = "[WP] The lighthouse keeper's daughter has never once been allowed to see the light."
AUTHOR, LEAVER = "maud_of_the_harbour", "walked_away_77"


def _threads() -> list[Thread]:
    """The demo, with a thread whose post and first reply will be deleted, and a reply whose author will leave."""
    *others, last = DemoSubreddit(threads=12)
    first, second, *rest = last.replies
    post = replace(last.post, title=PROMPT, author=AUTHOR)
    replies = (replace(first, body=STORY, author=AUTHOR), replace(second, author=LEAVER, body="A story that stays."), *rest)
    return [*others, replace(last, post=post, replies=replies)]


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(_threads())


def _fill_runs(folder: Path, ids: tuple[str, str]) -> None:
    """What training leaves behind: samples, a report, a log, a prepared corpus."""
    run = folder / "runs" / "r"
    run.mkdir(parents=True)
    kept, lost = {"prompt": "[WP] Another one.", "response": "x"}, {"prompt": PROMPT, "response": "y"}
    (run / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (kept, lost)))
    (run / "report.html").write_text(f"<p>{STORY.replace(' ', '&#32;')}</p>")
    (run / "log.wandb").write_bytes(b"\x00\x81" + json.dumps({"x": STORY}).encode() + b"\xff")
    (run / "metrics.csv").write_text("step,loss\n1,2\n")
    for name, thread in (("stale", ids[0]), ("fresh", "other")):
        cache = folder / "data" / "cache" / name / "train"
        cache.mkdir(parents=True)
        prompt = PROMPT if name == "stale" else "[WP] Another one."
        (cache / "pairs.jsonl").write_text(json.dumps({"thread_id": thread, "reply_id": "z", "prompt": prompt}))


def _purge(folder: Path, source: FakeSource, ask: bool = True) -> dict:
    purge = Purge(ask=ask, data_dir=str(folder / "data"), runs_dir=str(folder / "runs"))
    return purge.run(source, folder / "s.db", silent)


def test_deleted_text_and_author_are_found_nowhere_after_a_purge(tmp_path: Path, source: FakeSource) -> None:
    needles = [STORY, PROMPT, AUTHOR, LEAVER, STORY[20:60]]
    thread = source.threads[-1]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
        store.reject("dump", 3, "no parent", json.dumps({"body": STORY}).encode())
        store.reject("dump", 9, "no parent", json.dumps({"author": AUTHOR, "body": "x"}).encode())
        store.reject("dump", 12, "no parent", json.dumps({"author": "somebody", "body": "x"}).encode())
        store.write_rejects()
    Export(folder=str(tmp_path / "parquet")).run(source, tmp_path / "s.db", silent)
    _fill_runs(tmp_path, (thread.post.id, thread.replies[0].id))
    before = traces(tmp_path, needles)
    assert {"s.db", "s.db.rejects.jsonl", "post.parquet", "reply.parquet", "samples.jsonl", "log.wandb"} <= set(before)

    source.fake.deleted = {thread.post.id, thread.replies[0].id}
    source.fake.left = {thread.replies[1].id}
    told = _purge(tmp_path, source)
    assert traces(tmp_path, needles) == []
    assert told["erased"] >= 2
    assert [json.loads(line)["offset"] for line in (tmp_path / "s.db.rejects.jsonl").read_text().splitlines()] == [12]
    kept = (tmp_path / "runs/r/samples.jsonl").read_text()
    assert "Another one" in kept
    assert (tmp_path / "runs/r/metrics.csv").exists()
    assert not (tmp_path / "runs/r/report.html").exists()
    assert [path.name for path in (tmp_path / "data/cache").iterdir()] == ["fresh"]
    with Store(tmp_path / "s.db") as store:
        bodies = {reply.id: reply for found in store.threads() for reply in found.replies}
        assert bodies[thread.replies[0].id].body == "[deleted]"
        assert bodies[thread.replies[1].id].body == "A story that stays."
        assert len(bodies) == sum(len(t.replies) for t in source.threads)


def test_a_later_import_cannot_bring_it_back(tmp_path: Path, source: FakeSource) -> None:
    thread = source.threads[-1]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    source.fake.deleted, source.fake.left = {thread.post.id, thread.replies[0].id}, {thread.replies[1].id}
    digest = _purge(tmp_path, source)["digest"]
    with Store(tmp_path / "s.db", write=True) as store:
        later = 9e9
        store.add([replace(thread.post, seen_at=later), *(replace(reply, seen_at=later) for reply in thread.replies[:2])])
        assert store.rows("SELECT author FROM reply WHERE id = ?", (thread.replies[1].id,)) == [(None,)]
        assert store.rows("SELECT body FROM reply WHERE id = ?", (thread.replies[0].id,)) == [("[deleted]",)]
    assert traces(tmp_path, [STORY, PROMPT, AUTHOR, LEAVER]) == []
    source.fake.deleted = source.fake.left = set()  # restored on Reddit: what was erased stays erased
    assert _purge(tmp_path, source)["erased"] == 2 + _gone_from_the_start(source.threads)
    assert digest


def _gone_from_the_start(threads: list[Thread]) -> int:
    return sum(reply.body in GONE for thread in threads for reply in thread.replies)


def test_what_reddit_leaves_out_twice_is_erased_and_what_it_left_out_once_is_not(tmp_path: Path, source: FakeSource) -> None:
    first, second = source.threads[-1].replies[:2]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    source.fake.absent = {first.id}
    source.absent_once = {second.id}
    _purge(tmp_path, source)
    with Store(tmp_path / "s.db") as store:
        assert store.rows("SELECT body FROM reply WHERE id = ?", (first.id,)) == [("[deleted]",)]
        assert store.rows("SELECT body FROM reply WHERE id = ?", (second.id,)) == [("A story that stays.",)]
        assert store.rows("SELECT 1 FROM observation WHERE item_id = ? AND missing", (second.id,))


def test_a_purge_that_was_cut_off_is_finished_by_the_next(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = source.threads[-1]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    _fill_runs(tmp_path, (thread.post.id, thread.replies[0].id))
    source.fake.deleted = {thread.post.id, thread.replies[0].id}
    with monkeypatch.context() as patch:
        patch.setattr(Purge, "_clean_up", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            _purge(tmp_path, source)
    assert "samples.jsonl" in traces(tmp_path, [PROMPT])
    _purge(tmp_path, source, ask=False)
    assert traces(tmp_path, [STORY, PROMPT, AUTHOR]) == []


def test_a_reader_keeps_the_log_from_being_emptied_and_is_told(tmp_path: Path, source: FakeSource) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    source.fake.deleted = {source.threads[-1].replies[0].id}
    reader = sqlite3.connect(tmp_path / "s.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM post").fetchone()
    with pytest.raises(UserError, match="another process reads"):
        _purge(tmp_path, source)
    reader.close()
    _purge(tmp_path, source)
    assert traces(tmp_path, [STORY]) == []


def test_the_triggers_know_the_same_markers() -> None:
    assert {marker.strip("' ") for marker in schema.GONE.split("', '")} == {marker.strip() for marker in GONE}


@pytest.mark.parametrize(
    "quoted",
    [
        STORY, STORY.upper(), STORY[30:], f"<b>{STORY}</b>", json.dumps({"a": STORY}), STORY.replace(" ", "\n"),
        STORY.replace(" ", "&nbsp;"), json.dumps("é " + STORY.replace(" ", " ")),
    ],
)  # fmt: skip
def test_a_quotation_is_found_however_it_is_written(quoted: str) -> None:
    fragments = Fragments([STORY, "A dog, once."])
    assert fragments.within(f"before {quoted} after")
    assert not fragments.within("Seventeen lanterns drifted across another harbour, while a dog barked once.")


def test_short_texts_are_matched_whole() -> None:
    fragments = Fragments(["A dog, once.", "No."])
    assert fragments.within("there was a dog once upon")
    assert not fragments.within("no dog")

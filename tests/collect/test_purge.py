"""What was deleted on Reddit is erased everywhere, and stays erased."""

from __future__ import annotations

import html
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from rfr.collect.export import Export
from rfr.collect.files.dumps import import_dump
from rfr.collect.files.table_import import TableContent, import_table
from rfr.collect.purge import Purge
from rfr.collect.quotes import QuoteFinder
from rfr.collect.shards import new_shard
from rfr.collect.sources import DumpSource
from rfr.data.story_table import writing
from rfr.demo.fake_reddit import FakeReddit
from rfr.demo.faults import Faults, answers
from rfr.demo.subreddit import DemoSubreddit
from rfr.records import Observation, Reply, Story, Thread, is_gone
from rfr.reddit.crawler import silent
from rfr.store.rejects import write_rejects
from rfr.store.store import Origin, Store
from rfr.utils.files import partial_of
from tests.helpers.fakes import FakeSource
from tests.helpers.traces import traces

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
        _write_corpus(folder / "data" / "cache" / name / "train", thread, PROMPT if name == "stale" else "[WP] Another one.")


def _write_corpus(folder: Path, thread: str, prompt: str) -> None:
    folder.mkdir(parents=True)
    with writing(folder / "stories.arrow") as write:
        write([vars(Story(thread_id=thread, reply_id="z", prompt=prompt, response="x"))])


def _purge(folder: Path, source: FakeSource, ask: bool = True, **changes: float) -> dict:
    options = {"apart_h": 1.0, "most_left_out": 0.2} | changes
    purge = Purge(ask=ask, data_dir=str(folder / "data"), runs_dir=str(folder / "runs"), **options)
    return purge.run(source, folder / "s.db", silent)


def test_deleted_text_and_author_are_found_nowhere_after_a_purge(tmp_path: Path, source: FakeSource) -> None:
    needles = [STORY, PROMPT, AUTHOR, LEAVER, STORY[20:60]]
    thread = source.threads[-1]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
        store.reject(Origin("dump"), 3, "no parent", json.dumps({"body": STORY}).encode())
        store.reject(Origin("dump"), 9, "no parent", json.dumps({"author": AUTHOR, "body": "x"}).encode())
        store.reject(Origin("dump"), 12, "no parent", json.dumps({"author": "somebody", "body": "x"}).encode())
        write_rejects(store)
    Export(folder=str(tmp_path / "parquet")).run(source, tmp_path / "s.db", silent)
    _fill_runs(tmp_path, (thread.post.id, thread.replies[0].id))
    before = traces(tmp_path, needles)
    assert {"s.db", "s.db.rejects.jsonl", "post.parquet", "reply.parquet", "samples.jsonl", "log.wandb"} <= set(before)

    source.fake.deleted = {thread.post.id, thread.replies[0].id}
    source.fake.left = {thread.replies[1].id}
    report = _purge(tmp_path, source)
    assert traces(tmp_path, needles) == []
    assert report["erased"] >= 2
    rejects = [json.loads(line) for line in (tmp_path / "s.db.rejects.jsonl").read_text().splitlines()]
    assert [(row["offset"], row["reason"], row["line"]) for row in rejects] == [(n, "no parent", "") for n in (3, 9, 12)]
    kept = (tmp_path / "runs/r/samples.jsonl").read_text()
    assert "Another one" in kept
    assert (tmp_path / "runs/r/metrics.csv").exists()
    assert not (tmp_path / "runs/r/report.html").exists()
    assert [path.name for path in (tmp_path / "data/cache").iterdir() if path.is_dir()] == ["fresh"]
    with Store(tmp_path / "s.db") as store:
        bodies = {reply.id: reply for thread in store.threads() for reply in thread.replies}
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
        assert store.rows("SELECT author FROM reply WHERE id = ?", (thread.replies[1].id,)) == [("[deleted]",)]
        assert store.rows("SELECT body FROM reply WHERE id = ?", (thread.replies[0].id,)) == [("[deleted]",)]
    assert traces(tmp_path, [STORY, PROMPT, AUTHOR, LEAVER]) == []
    source.fake.deleted = source.fake.left = set()  # restored on Reddit: what was erased stays erased
    assert _purge(tmp_path, source)["erased"] == 2 + _gone_from_the_start(source.threads)
    assert digest


def _gone_from_the_start(threads: list[Thread]) -> int:
    return sum(is_gone(reply.body) for thread in threads for reply in thread.replies)


def test_items_left_out_twice_are_erased_and_items_left_out_once_are_not(tmp_path: Path, source: FakeSource) -> None:
    first, second = source.threads[-1].replies[:2]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    source.fake.absent = {first.id}
    source.absent_once = {second.id}
    assert _purge(tmp_path, source)["newly_erased"] == _gone_from_the_start(source.threads)
    assert _purge(tmp_path, source)["newly_erased"] == 0  # twice, but within an hour
    source.wait(7200)
    assert _purge(tmp_path, source)["newly_erased"] == 1
    with Store(tmp_path / "s.db") as store:
        assert store.rows("SELECT body FROM reply WHERE id = ?", (first.id,)) == [("[deleted]",)]
        assert store.rows("SELECT body FROM reply WHERE id = ?", (second.id,)) == [("A story that stays.",)]
        assert store.rows("SELECT 1 FROM observation WHERE item_id = ? AND missing", (second.id,))


def test_a_subreddit_that_went_private_is_not_taken_for_deleted(
    tmp_path: Path, source: FakeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    source.fake.absent = {i for thread in source.threads for i in (thread.post.id, *(reply.id for reply in thread.replies))}
    assert len(source.fake.absent) > 50
    for _ in range(2):
        report = _purge(tmp_path, source)
        source.wait(7200)
    assert report["erased"] == _gone_from_the_start(source.threads)
    assert report["left_out_kept"] == len(source.fake.absent) - report["erased"]
    assert "none of these was erased" in capsys.readouterr().err
    assert _purge(tmp_path, source, most_left_out=1)["erased"] == len(source.fake.absent)


def test_one_thread_that_reddit_refuses_is_not_taken_for_deleted(tmp_path: Path, source: FakeSource) -> None:
    """A 403 says that it is not for us; only a 404 says that it is not there."""
    post = source.threads[-1].post.id
    for status, missing in ((403, 0), (404, 1)):
        source.fake = FakeReddit(source.threads, faults=Faults({f"/comments/{post}": [answers(status)]}))
        with Store(tmp_path / f"{status}.db", write=True) as store:
            source.collect(store, silent)
            assert len(store.rows("SELECT 1 FROM observation WHERE missing")) == missing


def test_a_text_that_was_read_in_the_future_can_be_erased(tmp_path: Path, source: FakeSource) -> None:
    first, second = source.threads[-1].replies[:2]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
        for reply in (first, second):
            store.add(
                [replace(reply, seen_at=4e9), Observation(kind="reply", item_id=reply.id, seen_at=4e9, source="table", score=3)]
            )
    source.fake.deleted, source.fake.absent = {first.id}, {second.id}
    _purge(tmp_path, source)
    source.wait(7200)
    _purge(tmp_path, source)
    assert traces(tmp_path, [STORY, "A story that stays"]) == []


def test_items_of_a_table_are_not_asked_for(tmp_path: Path, source: FakeSource) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"title": "[WP] Mine.", "body": "My own story.", "score": 3}))
    with Store(tmp_path / "s.db", write=True) as store:
        import_table(store, tmp_path / "t.jsonl", TableContent({name: name for name in ("title", "body", "score")}, "s"))
    for _ in range(2):
        assert _purge(tmp_path, source)["erased"] == 0
        source.wait(7200)
    assert traces(tmp_path, ["My own story."]) == ["s.db", "t.jsonl"]


def test_stores_settings_and_tokenizers_below_the_runs_are_left_alone(tmp_path: Path, source: FakeSource) -> None:
    runs = tmp_path / "runs"
    (runs / "r" / "model").mkdir(parents=True)
    (runs / "r" / "model" / "tokenizer.json").write_text(json.dumps({"vocab": STORY.split()}))
    (runs / "r" / "metrics.csv").write_text("1,2\n3,4\n")
    (runs / "RC_2024-01").write_text(json.dumps({"body": STORY}))
    path, thread = runs / "s.db", source.threads[-1]
    with Store(path, write=True) as store:
        source.collect(store, silent)
        store.add([Reply(id="short", post_id=thread.post.id, body="1 2 3", seen_at=1.0)])
        store.add([Reply(id="short", post_id=thread.post.id, body="[deleted]", seen_at=2.0)])
    source.fake.deleted = {thread.replies[0].id}
    Purge(ask=True, apart_h=1, most_left_out=0.2, data_dir=str(runs), runs_dir=str(runs)).run(source, path, silent)
    assert {str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file() and path.suffix != ".lock"} == {
        "s.db", "r/metrics.csv", "r/model/tokenizer.json", "RC_2024-01",
    }  # fmt: skip
    assert traces(tmp_path, [STORY]) == ["RC_2024-01"]


def test_parts_rejects_and_links_are_searched_too(tmp_path: Path, source: FakeSource) -> None:
    first = source.threads[-1].replies[0]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    with Store(new_shard(tmp_path / "s.db", "left"), write=True) as part:
        part.add([replace(first, seen_at=1.0)])
    (tmp_path / "elsewhere").mkdir()
    for name in ("s.db.rejects.jsonl", "elsewhere/samples.jsonl.99"):
        partial_of(tmp_path / name).write_text(STORY)  # of a process that was killed
    (tmp_path / "elsewhere" / "samples.jsonl").write_text(json.dumps({"a": f"x\u2028{STORY}"}, ensure_ascii=False) + "\n{}\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "big").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "big" / "back").symlink_to(tmp_path / "runs")
    source.fake.deleted = {first.id}
    _purge(tmp_path, source)
    assert traces(tmp_path, [STORY]) == []
    assert (tmp_path / "elsewhere" / "samples.jsonl").read_text() == "{}\n"
    with Store(tmp_path / "s.db", write=True) as store, store.transaction():  # a line that can't be read comes after the purge
        store.reject(Origin("dump"), 1, "no id", json.dumps({"body": STORY}).encode())
    _purge(tmp_path, source)
    assert traces(tmp_path, [STORY]) == []


def test_rounds_of_own_stories_are_searched_too(tmp_path: Path, source: FakeSource) -> None:
    thread, rounds = source.threads[-1], tmp_path / "runs" / "r" / "rounds"
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    rounds.mkdir(parents=True)
    for name, prompt in (("learned-0000", PROMPT), ("learned-0001", "[WP] Another one.")):
        pq.write_table(
            pa.table({"prompts": [prompt, "[WP] x"], "texts": ["y", "z"], "score": [0.0, 1.0]}), rounds / f"{name}.parquet"
        )
    (rounds / "learned-0002.parquet.partial").write_bytes(b"PAR1 half of it")
    (tmp_path / "runs" / "theirs.parquet").write_bytes(b"not of a round")
    source.fake.deleted = {thread.post.id}
    _purge(tmp_path, source)
    assert [path.name for path in rounds.iterdir()] == ["learned-0001.parquet"]
    assert (tmp_path / "runs" / "theirs.parquet").exists()


def test_a_corpus_that_cannot_be_read_is_removed(tmp_path: Path, source: FakeSource) -> None:
    thread, cache = source.threads[-1], tmp_path / "data" / "cache"
    for name in ("broken", "killed.partial"):
        (cache / name / "train").mkdir(parents=True)
        (cache / name / "train" / "stories.arrow").write_text(STORY)
    _write_corpus(tmp_path / "far", thread.post.id, PROMPT)
    (cache / "linked").symlink_to(tmp_path / "far")
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    source.fake.deleted = {thread.post.id}
    _purge(tmp_path, source)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []
    assert not (tmp_path / "far").exists()


def test_an_earlier_version_of_a_text_goes_and_what_the_present_one_says_stays(tmp_path: Path, source: FakeSource) -> None:
    thread = source.threads[-1]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    edited = STORY.replace("unpaid debts to the sea", "debts") + " Nobody else ever had the patience for it."
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "samples.jsonl").write_text(f"{json.dumps(STORY)}\n{json.dumps(edited)}\n")
    source.threads[-1] = replace(thread, replies=(replace(thread.replies[0], body=edited), *thread.replies[1:]))
    source.fake = FakeReddit(source.threads)
    _purge(tmp_path, source)
    assert (tmp_path / "runs" / "samples.jsonl").read_text() == f"{json.dumps(edited)}\n"
    assert traces(tmp_path, [STORY]) == []
    source.fake.deleted = {thread.replies[0].id}
    _purge(tmp_path, source)
    assert traces(tmp_path, [STORY, edited]) == []


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
    (failure,) = _purge(tmp_path, source)["not_cleaned"]
    assert "another process reads" in failure
    reader.close()
    assert _purge(tmp_path, source)["not_cleaned"] == []
    assert traces(tmp_path, [STORY]) == []


@pytest.mark.parametrize(
    "quoted",
    [
        STORY, STORY.upper(), STORY[30:], f"<b>{STORY}</b>", json.dumps({"a": STORY}), STORY.replace(" ", "\n"),
        STORY.replace(" ", "&nbsp;"), json.dumps("é " + STORY.replace(" ", " ")),
    ],
)  # fmt: skip
def test_a_quotation_is_found_however_it_is_written(quoted: str) -> None:
    fragments = QuoteFinder([STORY, "A dog, once."])
    assert fragments.found_in(f"before {quoted} after")
    assert not fragments.found_in("Seventeen lanterns drifted across another harbour, while a dog barked once.")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (
            "A lighthouse keeper befriends the approaching stormcloud.",
            b"\x0a\x38A lighthouse keeper befriends the approaching stormcloud",  # a length of 56 bytes looks like an 8
        ),
        ("[WP] The ghost\u00adwriter has gone home.", "[WP] The ghostwriter has gone home."),
        ("ある朝、灯台守は海に手紙を書いた。返事はなかった。", "...灯台守は海に手紙を書いた..."),
    ],
)  # fmt: skip
def test_quotes_are_found_though_words_stick_hide_or_have_no_spaces(text: str, quoted: bytes | str) -> None:
    assert QuoteFinder([text]).found_in(quoted.decode() if isinstance(quoted, bytes) else quoted)


def test_numbers_are_everybodys() -> None:
    assert not QuoteFinder(["1 2 3 4 5"]).found_in("1,2\n3,4\n5")


def test_short_texts_are_matched_whole() -> None:
    fragments = QuoteFinder(["A dog, once.", "No."])
    assert fragments.found_in("there was a dog once upon")
    assert not fragments.found_in("no dog")


POISONS = {  # texts that once stopped a purge, or that once escaped it
    "entity": f"The giant was so tired &#{'1' * 5000}; that he lay down over the road, and the town built on his back.",
    "markup": f"{'>!' * 3000} Cedar smoke rose from the empty house, and all of us knew that nobody had lived there since.",
    "nul": "Frost covered the throne, \x00 but the old queen would not leave it, for she had promised the river to wait.",
    "signs": "He sold his shadow to the miller \u2028 for a bag of flour \u202e and in the spring it came back with a child.",
}
MINE = "Every evening the lamp on the far hill was lit by a hand that none of us had ever seen, until it asked for my name."


def test_every_poison_is_erased_everywhere_and_nothing_else(tmp_path: Path) -> None:
    """The store, its export, rejects, a corpus, samples and logs, searched byte by byte."""
    post = {"subreddit": "WritingPrompts", "id": "p1", "title": "[WP] The moon sends the village a letter.", "score": 5,
            "author": "asker", "created_utc": 1609459200, "retrieved_on": 1610459200}  # fmt: skip
    replies = [
        {**post, "id": f"r{n}", "body": body, "author": f"writer_of_{name}", "link_id": "t3_p1", "parent_id": "t3_p1"}
        for n, (name, body) in enumerate(POISONS.items())
    ]  # fmt: skip
    for reply in replies:
        del reply["title"]
    gone = [{**reply, "body": body, "author": "[deleted]", "retrieved_on": 1620000000} for reply, body in zip(
        replies, ("[deleted]", "[ Removed by Reddit ]", "[REMOVED BY MODERATOR]", "x"), strict=True)]  # fmt: skip
    gone[3]["_meta"] = {"was_deleted_later": True}
    (tmp_path / "mine.jsonl").write_text(json.dumps({"title": "[WP] Mine.", "body": MINE, "score": 3, "reply_id": "r0"}) + "\n")
    source = DumpSource(path=None, subreddit="WritingPrompts")
    with Store(tmp_path / "s.db", write=True) as store:
        for name, lines in (("RC_1", [post, *replies, {**replies[0], "id": "r9", "score": "many"}]), ("RC_2", gone)):
            (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
            if name == "RC_1":
                import_dump(store, tmp_path / name, "WritingPrompts")
                write_rejects(store)
        columns = {name: name for name in ("title", "body", "score", "reply_id")}
        import_table(store, tmp_path / "mine.jsonl", TableContent(columns, "s"))
    Export(folder=str(tmp_path / "parquet")).run(source, tmp_path / "s.db", silent)
    _fill_runs(tmp_path, ("r0", "r1"))
    samples = tmp_path / "runs" / "r" / "samples.jsonl"
    samples.write_text("".join(json.dumps({"response": text}) + "\n" for text in [*POISONS.values(), MINE]))
    for name, text in POISONS.items():
        (tmp_path / "runs" / "r" / f"{name}.html").write_text(f"<p>{html.escape(text)}</p>")
        (tmp_path / "runs" / "r" / f"{name}.log").write_bytes(b"\xff\x00" + text.encode() + b"\xfe")
    with Store(tmp_path / "s.db", write=True) as store:
        import_dump(store, tmp_path / "RC_2", "WritingPrompts")
    (tmp_path / "RC_1").unlink()
    (tmp_path / "RC_2").unlink()
    figures = Purge(
        ask=False, apart_h=1, most_left_out=0.2, data_dir=str(tmp_path / "data"), runs_dir=str(tmp_path / "runs")
    ).run(source, tmp_path / "s.db", silent)  # fmt: skip
    assert (figures["newly_erased"], figures["not_cleaned"]) == (4, [])
    needles = ["lay down over the road", "Cedar smoke rose", "old queen would not leave", "bag of flour", "writer_of_"]
    assert traces(tmp_path, needles) == []
    assert set(traces(tmp_path, [MINE])) == {"mine.jsonl", "s.db", "samples.jsonl", "reply.parquet"}
    assert [path.name for path in (tmp_path / "data/cache").iterdir() if path.is_dir()] == ["fresh"]
    with Store(tmp_path / "s.db") as store:
        assert store.rows("SELECT * FROM residue") == []


def test_a_purge_does_what_it_can_and_says_what_it_could_not(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = source.threads[-1]
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
    _fill_runs(tmp_path, (thread.post.id, thread.replies[0].id))
    source.fake.deleted = {thread.post.id, thread.replies[0].id}
    with monkeypatch.context() as patch, FileLock(tmp_path / "data" / "cache" / "stale.lock"):
        real = Path.read_bytes
        patch.setattr(
            Path, "read_bytes", lambda path: real(path) if path.name != "samples.jsonl" else _raise(OSError("bad disk"))
        )
        figures = _purge(tmp_path, source)
    assert len(figures["not_cleaned"]) == 2
    assert any("bad disk" in failure for failure in figures["not_cleaned"])
    assert any("preparing it just now" in failure for failure in figures["not_cleaned"])
    assert not (tmp_path / "runs/r/report.html").exists(), "the rest was cleaned"
    assert _purge(tmp_path, source)["not_cleaned"] == []
    assert traces(tmp_path, [STORY, PROMPT]) == []


def _raise(error: Exception) -> bytes:
    raise error


def test_a_tables_own_text_that_was_edited_is_not_looked_for(tmp_path: Path, source: FakeSource) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "samples.jsonl").write_text(json.dumps(MINE) + "\n")
    with Store(tmp_path / "s.db", write=True) as store:
        source.collect(store, silent)
        for seen_at, body in ((1.0, MINE), (2.0, "Another one.")):
            (tmp_path / "t.jsonl").write_text(json.dumps({"title": "[WP] A.", "body": body, "score": 1, "reply_id": "1"}))
            columns = {name: name for name in ("title", "body", "score", "reply_id")}
            import_table(store, tmp_path / "t.jsonl", TableContent(columns, "s", seen_at=seen_at))
    _purge(tmp_path, source)
    assert "samples.jsonl" in traces(tmp_path, [MINE])

"""No single item stops anything: whatever strangers write or send is kept, or it is one counted item with its reason."""

from __future__ import annotations

import json
import random
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from more_itertools import chunked

from rfr.collect.export import Export
from rfr.collect.files import dumps, table_import
from rfr.collect.files.dumps import ImportState, import_dump
from rfr.collect.files.table_import import TableContent, import_table
from rfr.collect.purge import Purge
from rfr.collect.quotes import QuoteFinder
from rfr.collect.sources import DumpSource
from rfr.data.clean.cleaner import Clean, clean_story
from rfr.data.clean.near_duplicates import signature
from rfr.data.clean.titles import canonical_prompt
from rfr.data.pack.long_stories import Segment
from rfr.data.pack.sentences import sentence_ends
from rfr.data.prepare import Preprocess
from rfr.data.replies import POST_UNKNOWN
from rfr.data.split import Split
from rfr.data.tokenise import train_bpe
from rfr.errors import UserError
from rfr.records import Observation, Post, Reply, Story, is_gone
from rfr.reddit.crawler import Crawler, silent
from rfr.store.store import Store

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
PLAIN = (
    "The keeper of the lighthouse had been there for as long as they could remember, and she did not like it when people asked."
)
SIGNS = "[](){}<>*_~`^#&!\\/|.,;:-+=\"' \n\t\raA1é\u200b\u200d\u0301\u2028\x0b中😀"
OPENINGS = [
    ">!",
    "^(",
    "[",
    "](",
    "**",
    "__",
    "~~",
    "`",
    "> ",
    "&#",
    "&amp;",
    "\\",
    "[a](http://b",
    "edit: ",
    "[removed",
    "http://",
]
MARKUP = st.tuples(st.sampled_from(OPENINGS), st.integers(1, 300)).map(lambda drawn: drawn[0] * drawn[1])
ENTITIES = st.one_of(
    st.integers(1, 6000).map(lambda n: f"&#{'1' * n};"), st.integers(1, 6000).map(lambda n: f"&#{'0' * n}65;"),
    st.integers(1, 300).map(lambda n: f"&#x{'f' * n};"), st.sampled_from(["&amp;#39;", "&#;", "&#x;", "&nosuch;", "&#1114112;"]),
)  # fmt: skip
TEXTS = st.lists(
    st.one_of(st.text(max_size=200), st.text(SIGNS, max_size=200), MARKUP, ENTITIES, st.just(PLAIN)), max_size=6
).map("".join)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
              st.sampled_from(["true", "False", "0", "1", "NaN", "12", "-3", "1e3", "1e999", "20240131", "t1_x", "t3_p1", ""])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=5,
)  # fmt: skip


def _thorough(examples: int) -> Decorator:
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def _many(few: int, many: int) -> Any:
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


# --- texts


@_many(500, 8_000)
def test_no_text_stops_cleaning_preparation_export_or_purge(tmp_path: Path, examples: int) -> None:
    seen: list[str] = []
    clean = Clean(min_words=20)

    @_thorough(examples)
    @given(TEXTS)
    def cleaned(text: str) -> None:
        seen.append(text)
        story = Story(thread_id="t", reply_id="r", prompt=text, response=text)
        assert isinstance(clean(story), Story | str)
        clean_story(text)
        canonical_prompt(text)
        sentence_ends(text)
        QuoteFinder([text]).found_in(text)

    cleaned()
    assert len(set(seen)) > examples / 2
    for number, texts in enumerate(chunked(seen, 1000)):
        _through_the_road(tmp_path / str(number), texts)


def _story(number: int) -> str:
    """No two alike."""
    return " ".join(random.Random(number).choices(PLAIN.split(), k=40))


def _through_the_road(folder: Path, texts: list[str]) -> None:
    """Each text as a title and as a story: prepared, exported, deleted, purged."""
    folder.mkdir()
    path = folder / "s.db"
    with Store(path, write=True) as store, store.transaction():
        for number, text in enumerate([*map(_story, range(40)), *texts]):
            store.add([Post(id=f"p{number}", subreddit="s", title=text if number >= 40 else f"[WP] {number}", seen_at=1.0)])
            store.add([Reply(id=f"r{number}", post_id=f"p{number}", body=text, author="a", seen_at=1.0)])
            store.add([Observation(kind="reply", item_id=f"r{number}", seen_at=9.0, source="t", score=number)])
    preprocess = Preprocess(
        clean=Clean(min_words=5), split=Split(validation_share=0.3, salt="t"), fit=Segment(context_tokens=8), block_size=64
    )
    tokenizer = train_bpe([PLAIN], 300)
    with Store(path) as store:
        ledger = preprocess.prepare(store, lambda _: tokenizer, "any", folder / "data" / "cache").ledger
        assert sum(account["came_in"]["stories"] for account in ledger.values()) == store.counts()["reply"]
    Export(folder=str(folder / "parquet")).run(None, path, silent)
    (folder / "runs").mkdir()
    (folder / "runs" / "samples.jsonl").write_text("".join(json.dumps({"x": text}) + "\n" for text in texts))
    with Store(path, write=True) as store, store.transaction():
        store.add(Reply(id=f"r{n + 40}", post_id=f"p{n + 40}", body="[deleted]", author="[deleted]", seen_at=2.0)
                  for n in range(len(texts)))  # fmt: skip
    purge = Purge(ask=False, apart_h=1, most_left_out=0.2, data_dir=str(folder / "data"), runs_dir=str(folder / "runs"))
    figures = purge.run(DumpSource(path=None, subreddit="abc"), path, silent)
    assert figures["not_cleaned"] == []
    gone_titles = sum(is_gone(text) for text in texts)
    assert figures["newly_erased"] == len(texts) + gone_titles
    with Store(path) as store:
        assert store.rows("SELECT * FROM residue") == []


def _patterns(count: int) -> Iterator[str]:
    every = [*SIGNS, *("".join(two) for two in product(SIGNS, repeat=2) if two[0] != two[1]), *OPENINGS, "^(", ">!", "_́", "😀*"]
    yield from random.Random(7).sample(every, count)


@_many(12, 100)
def test_a_megabyte_of_any_pattern_takes_less_than_a_second(examples: int) -> None:
    """A text can't be told to cost more than its length; of two tries the better, since others may be busy."""
    clean, slow = Clean(min_words=20), {}
    for pattern in _patterns(examples):
        text = pattern * (10**6 // len(pattern))
        story = Story(thread_id="t", reply_id="r", prompt="[WP] A.", response=text)
        taken = min(_seconds(lambda: clean(story)) for _ in range(2))  # noqa: B023
        if taken >= 1:
            slow[pattern] = taken
    assert slow == {}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@pytest.mark.parametrize(
    "work", [sentence_ends, signature, is_gone, canonical_prompt, lambda text: QuoteFinder([text]).found_in(text)]
)
@pytest.mark.parametrize("pattern", ["a ", "a", ". A", "[deleted ", '"', "('", "&#1", "é\u200b", "[WP] "])
def test_ten_times_the_text_takes_about_ten_times_the_time(work: Callable[[str], object], pattern: str) -> None:
    short, long = (pattern * (size // len(pattern)) for size in (10**5, 10**6))
    assert min(_seconds(lambda: work(long)) for _ in range(2)) < 30 * max(_seconds(lambda: work(short)), 0.005)


# --- values


DUMPED = {
    "id": "r1", "subreddit": "WritingPrompts", "body": "Once.", "author": "b", "created_utc": 1609462800, "score": 4,
    "link_id": "t3_p1", "parent_id": "t3_p1", "retrieved_on": 1610462800, "_meta": {"was_deleted_later": False},
    "stickied": False, "score_hidden": False, "archived": False, "distinguished": None, "num_comments": 1,
    "removed_by_category": None, "retrieved_utc": None,
}  # fmt: skip
POSTED = {**DUMPED, "id": "p1", "title": "[WP] A.", "selftext": "", "link_flair_text": None}
ROW = {
    "title": "[WP] A.", "body": "Once.", "score": 3, "post_id": "1", "reply_id": "2", "post_score": 5, "post_body": "",
    "post_created_utc": 1609459200, "created_utc": "2021-01-01", "author": "a",
}  # fmt: skip
COLUMNS = {name: name for name in ROW}


@_many(300, 3000)
def test_any_value_in_any_field_of_a_dump_is_kept_or_rejected_with_a_reason(tmp_path: Path, examples: int) -> None:
    changed: list[dict] = []

    @_thorough(examples)
    @given(st.sampled_from([DUMPED, POSTED]), st.data(), JSON)
    def line(base: dict, data: st.DataObject, value: Any) -> None:
        changed.append({**base, data.draw(st.sampled_from(sorted(base))): value})

    line()
    (tmp_path / "RC").write_text("".join(json.dumps(row) + "\n" for row in [POSTED, *changed]))
    with Store(tmp_path / "s.db", write=True) as store:
        state = import_dump(store, tmp_path / "RC", "WritingPrompts")
        assert state.read == len(changed) + 1 == state.kept + state.filtered + state.rejected
        assert state.kept > len(changed) / 4
        assert state.rejected > len(changed) / 20
        reasons = [reason for (reason,) in store.rows("SELECT reason FROM reject")]
    assert len(reasons) == state.rejected
    assert all(reason and "\n" not in reason for reason in reasons)


@_many(300, 3000)
def test_any_value_in_any_cell_of_a_table_is_kept_or_rejected_with_a_reason(tmp_path: Path, examples: int) -> None:
    changed: list[dict] = []

    @_thorough(examples)
    @given(st.sampled_from(sorted(ROW)), JSON.filter(lambda value: not isinstance(value, list)))
    def row(name: str, value: Any) -> None:
        changed.append({**ROW, "reply_id": str(len(changed)), name: value})

    row()
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
    with Store(tmp_path / "s.db", write=True) as store:
        figures = import_table(store, tmp_path / "t.jsonl", TableContent(COLUMNS, "s"))
        assert figures.read == len(changed) == figures.kept + figures.rejected
        assert figures.rejected > len(changed) / 20
        assert len(store.rows("SELECT 1 FROM reject")) == figures.rejected
        assert all(reason for (reason,) in store.rows("SELECT reason FROM reject"))


@_many(300, 3000)
def test_any_value_in_any_field_of_the_api_is_kept_or_rejected_with_a_reason(tmp_path: Path, examples: int) -> None:
    with Store(tmp_path / "s.db", write=True) as store, store.transaction():
        crawler = Crawler(client=None, store=store, subreddit="WritingPrompts", clock=None)  # type: ignore[arg-type]

        @_thorough(examples)
        @given(st.sampled_from(["t1", "t3"]), st.data(), JSON)
        def child(kind: str, data: st.DataObject, value: Any) -> None:
            base = POSTED if kind == "t3" else DUMPED
            name = data.draw(st.sampled_from(sorted(base)))
            item = {"kind": kind, "data": {**base, name: value}}
            crawler.met = {"posts": set(), "replies": set()}
            crawler.keep([item], 1.0)
            choice = zlib.crc32(json.dumps(item).encode())
            rejected = store.rows("SELECT 1 FROM reject WHERE offset = ?", (choice,))
            nested = kind == "t1" and name in ("parent_id", "link_id")
            assert any(crawler.met.values()) != bool(rejected) or (nested and not rejected)

        child()
        assert all(reason for (reason,) in store.rows("SELECT reason FROM reject"))
        assert store.rows("SELECT 1 FROM reject")
        assert store.counts()["reply"] > 0


# --- nothing is unaccounted


LINES = ("post", "reply", "orphan", "nested", "elsewhere", "broken", "bad score", "no parent", "blank", "repeat")


@_many(40, 400)
def test_every_line_of_every_file_is_accounted_for(tmp_path: Path, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good and bad lines, in files that are read twice and killed on the way."""
    monkeypatch.setattr(dumps, "COMMIT_BYTES", 2000)
    monkeypatch.setattr(dumps, "chunks", lambda path: iter([line + b"\n" for line in path.read_bytes().split(b"\n")[:-1]]))
    number, seen = 0, Counter[str]()

    @_thorough(examples)
    @given(
        st.lists(st.lists(st.sampled_from(LINES), min_size=1, max_size=60), min_size=1, max_size=3),
        st.randoms(use_true_random=False),
    )
    def mixture(files: list[list[str]], rng: random.Random) -> None:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        expected = [_write(folder / f"RC_{n}", kinds, n) for n, kinds in enumerate(files)]
        for kinds in files:
            seen.update(kinds)
        with Store(folder / "s.db", write=True) as store:
            for n in rng.choices(range(len(files)), k=2 * len(files)):
                _import(store, folder / f"RC_{n}", rng)
            for n, counts in enumerate(expected):
                try:
                    state = _import(store, folder / f"RC_{n}", rng)
                except UserError:
                    assert counts["rejected"] == counts["read"]
                    continue
                assert {"read": state.read, "kept": state.kept, "filtered": state.filtered, "rejected": state.rejected} == counts
            threads = [*store.threads(), *store.threads_without_post()]
            assert sum(len(thread.replies) for thread in threads) == store.counts()["reply"]
            lacking = sum(len(thread.replies) for thread in store.threads_without_post())
            assert lacking == store.replies_without_post()

    mixture()
    assert min(seen[kind] for kind in LINES) > 0


ROWS = ("good", "broken", "no object", "bad score", "no title", "blank", "thread", "uneven thread", "repeat")


@_many(60, 600)
def test_every_row_of_every_table_is_accounted_for(tmp_path: Path, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of good and bad rows beside a dump, read again and killed on the way: what comes in is whole, or nothing."""
    monkeypatch.setattr(table_import, "CHUNK_STORIES", 5)
    number, seen = 0, Counter[str]()

    @_thorough(examples)
    @given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=40), st.randoms(use_true_random=False))
    def table(kinds: list[str], rng: random.Random) -> None:
        nonlocal number
        number, path = number + 1, tmp_path / f"t{number}.jsonl"
        seen.update(kinds)
        lines = [_table_line(kind, n) for n, kind in enumerate(kinds)]
        path.write_text("".join(f"{lines[n - 1] if kind == 'repeat' and n else lines[n]}\n" for n, kind in enumerate(kinds)))
        (tmp_path / f"RC_{number}").write_text(json.dumps(POSTED) + "\n")
        with Store(tmp_path / f"{number}.db", write=True) as store:
            import_dump(store, tmp_path / f"RC_{number}", "WritingPrompts")
            for _ in range(3):
                before = store.digest()
                try:
                    figures = import_table(store, path, TableContent(COLUMNS, "s"), _stopping(rng))
                except (KeyboardInterrupt, UserError):
                    assert store.digest() == before
                    continue
                assert figures.read == figures.kept + figures.rejected
                assert len(store.rows("SELECT 1 FROM reject WHERE source = 'table'")) == figures.rejected
                assert figures.read >= sum(kind != "blank" for kind in kinds if kind != "repeat")
                assert store.counts()["reply"] > 0

    table()
    assert min(seen[kind] for kind in ROWS) > 0


def _table_line(kind: str, n: int) -> str:
    row = {**ROW, "reply_id": str(n)}
    changes: dict[str, dict[str, Any]] = {
        "bad score": {"score": "12 points"}, "no title": {"title": ""},
        "thread": {"body": ["a", "b"], "score": [1, None], "reply_id": [f"{n}a", f"{n}b"]},
        "uneven thread": {"body": ["a", "b"], "score": [1]},
    }  # fmt: skip
    text = json.dumps(row | changes.get(kind, {}))
    return {"broken": text[:-5], "no object": "[1]", "blank": ""}.get(kind, text)


def _stopping(rng: random.Random) -> Callable[[int], None]:
    def progress(_: int) -> None:
        if rng.random() < 0.2:
            raise KeyboardInterrupt

    return progress


def _import(store: Store, path: Path, rng: random.Random) -> ImportState:
    """Until it is done, stopped now and then."""

    def progress(state: ImportState) -> None:
        if not state.done and rng.random() < 0.3:
            raise KeyboardInterrupt

    while True:
        try:
            return import_dump(store, path, "WritingPrompts", progress)
        except KeyboardInterrupt:
            continue


BECOMES = {
    "post": "kept", "reply": "kept", "orphan": "kept", "nested": "filtered", "elsewhere": "filtered", "blank": "filtered",
    "broken": "rejected", "bad score": "rejected", "no parent": "rejected",
}  # fmt: skip


def _write(path: Path, kinds: list[str], file: int) -> dict[str, int]:
    """A dump of such lines; what must become of them."""
    lines, outcome = [b""], Counter(["filtered"])
    last = "filtered"
    for n, kind in enumerate(kinds):
        last = BECOMES.get(kind, last)
        outcome[last] += 1
        lines.append(lines[-1] if kind == "repeat" else _line(kind, file, n))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return {"read": len(lines), **{name: outcome[name] for name in ("kept", "filtered", "rejected")}}


def _line(kind: str, file: int, n: int) -> bytes:
    reply, post = {**DUMPED, "id": f"r{file}x{n}"}, f"p{file % 2}"
    changes: dict[str, dict[str, Any]] = {
        "post": {**POSTED, "id": post}, "reply": {"parent_id": f"t3_{post}"}, "orphan": {"parent_id": f"t3_lost{n}"},
        "nested": {"parent_id": "t1_x"}, "elsewhere": {"subreddit": "cats"}, "bad score": {"score": "many"},
        "no parent": {"parent_id": None, "link_id": None}, "broken": {}, "blank": {},
    }  # fmt: skip
    text = json.dumps(reply | changes[kind]).encode()
    return {"broken": text[:-9], "blank": b""}.get(kind, text)


def test_the_ledger_has_every_reply_of_the_store(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store, store.transaction():
        for n in range(60):
            title = f"[WP] Number {n}."
            store.add([Post(id=f"p{n}", subreddit="s", title=title)] if n % 3 else [])
            store.add([Reply(id=f"r{n}", post_id=f"p{n}", body=_story(n), author="a")])
            store.add([Observation(kind="reply", item_id=f"r{n}", seen_at=None, source="t", score=n)])
    preprocess = Preprocess(
        clean=Clean(min_words=5), split=Split(validation_share=0.3, salt="t"), fit=Segment(context_tokens=8), block_size=64
    )
    with Store(tmp_path / "s.db") as store:
        ledger = preprocess.prepare(store, lambda _: train_bpe([PLAIN], 300), "any", tmp_path / "cache").ledger
    assert sum(account["came_in"]["stories"] for account in ledger.values()) == 60
    assert sum(account["left_out"].get(POST_UNKNOWN, {"stories": 0})["stories"] for account in ledger.values()) == 20

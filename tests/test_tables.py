"""Tables into the store; every bad input gets its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rfr import config
from rfr.errors import UserError
from rfr.purge import EVERYTHING
from rfr.reddit.agenda import changed_threads, due, orphaned_posts
from rfr.reddit.crawler import silent
from rfr.reddit.sources import TableSource
from rfr.reddit.tables import import_table, time_of
from rfr.rejects import write_rejects
from rfr.store import Store
from tests.conftest import ROOT

COLUMNS = {"title": "prompt", "body": "text", "score": "karma", "post_id": "", "reply_id": ""}
ROWS: list[dict[str, object]] = [
    {"prompt": "[WP] A.", "text": "one", "karma": 3},
    {"prompt": "[WP] A.", "text": "two", "karma": "5"},
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.db", write=True)


def _write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_csv_and_jsonl_give_the_same_store(tmp_path: Path) -> None:
    jsonl = tmp_path / "t.jsonl.gz"
    jsonl.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    csv = _write(tmp_path / "t.csv", ["prompt,text,karma", "[WP] A.,one,3", "[WP] A.,two,5"])
    digests = []
    for number, table in enumerate((jsonl, csv, csv)):
        with Store(tmp_path / f"{number // 2}-{number}.db", write=True) as store:
            assert import_table(store, table, COLUMNS, subreddit="s") == {"read": 2, "kept": 2, "rejected": 0}
            assert store.counts() == {"post": 1, "reply": 2, "observation": 2}
            digests.append(store.digest())
    assert len(set(digests)) == 1


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("t.jsonl", [json.dumps({"prompt": "a", "text": "b"})], "no column for score: karma"),
        ("t.jsonl", ["{broken"], "damaged"),
        ("t.jsonl", [json.dumps({**ROWS[0], "karma": "many"})], "story 1: karma 'many' is no whole number"),
        ("t.jsonl", [json.dumps({**ROWS[0], "karma": 1e400})], "karma inf is no whole number"),
        ("t.jsonl", [json.dumps({**ROWS[0], "karma": 3.7})], r"karma 3\.7 is no whole number"),
        ("t.jsonl", [json.dumps({**ROWS[0], "text": {"a": 1}})], "text is no text"),
        ("t.jsonl", [json.dumps({**ROWS[0], "prompt": 7})], "prompt is no text"),
        ("t.jsonl", [json.dumps({**ROWS[0], "prompt": ""})], "no prompt"),
        ("t.jsonl", [json.dumps({**ROWS[0], "text": "\ud800"})], "half a character"),
        ("t.jsonl", ["[" * 200_000], "damaged"),
        ("t.csv", ["prompt,text,karma", "a,b"], "line 2: the row has not as many cells"),
        ("t.csv", ["prompt,text,karma", "a,b,3,x"], "line 2: the row has not as many cells"),
        ("t.csv", ["prompt,text,karma,text", "a,b,3,x"], "two columns called text"),
        ("t.csv", ["prompt,text,karma", 'a,"b,3', "c,d,4"], "damaged"),
        ("t.txt", ["x"], "neither .parquet, .jsonl, .csv"),
        ("t.csv", ["prompt,text,karma"], "no rows"),
    ],
)
def test_bad_tables(tmp_path: Path, store: Store, name: str, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_table(store, _write(tmp_path / name, lines), COLUMNS, subreddit="s")
    assert store.counts()["reply"] == 0


def test_a_missing_table_and_a_missing_mapping(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UserError, match=r"source\.path"):
        import_table(store, tmp_path / "none.csv", COLUMNS, subreddit="s")
    table = _write(tmp_path / "t.jsonl", [json.dumps(ROWS[0])])
    with pytest.raises(UserError, match="must map score"):
        import_table(store, table, {"title": "prompt", "body": "text"}, subreddit="s")


def test_the_real_table(shared_data: Path, store: Store) -> None:
    names = ("title", "body", "score", "post_id", "reply_id", "post_score", "post_created_utc")
    rows = import_table(
        store, shared_data / "writingprompts.jsonl.gz", {name: name for name in names}, subreddit="WritingPrompts"
    )
    assert rows == {"read": 8923, "kept": 8923, "rejected": 0}
    assert store.counts() == {"post": 522, "reply": 8923, "observation": 9445}


THREAD: dict[str, object] = {
    "post_text": "", "post_title": "[WP] A lighthouse.", "post_scores": 12, "comment_texts": ["one", "two", "three"],
    "comment_scores": [3, 5, -1], "comment_times": ["1500000000", "2017-07-14T02:40:01", "2017-07-14T02:40:02+00:00"],
}  # fmt: skip


def _composed(source: str, path: Path) -> TableSource:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return instantiate(config.resolve(compose("collect", [f"source={source}", f"source.path={path}"])).source)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_threads_with_lists_of_replies_are_unrolled(tmp_path: Path, store: Store, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([THREAD, {**THREAD, "post_title": "[WP] B."}]), path)
    else:
        _write(path, [json.dumps(THREAD), json.dumps({**THREAD, "post_title": "[WP] B."})])
    _composed("preferences", path).collect(store, silent)
    assert store.counts() == {"post": 2, "reply": 6, "observation": 8}
    first = next(thread for thread in store.threads() if thread.post.title == "[WP] A lighthouse.")
    told = {reply.body: (first.observations[reply.id].score, reply.created_utc) for reply in first.replies}
    assert told == {"one": (3, 1500000000.0), "two": (5, 1500000001.0), "three": (-1, 1500000002.0)}
    assert first.observations[first.post.id].score == 12


def test_text_files_side_by_side(tmp_path: Path, store: Store) -> None:
    _write(tmp_path / "train.wp_source", ["[ WP ] A lighthouse .", "[ WP ] B ."])
    _write(tmp_path / "train.wp_target", ["Once . <newline> <newline> Twice .", "Never ."])
    _composed("source_target", tmp_path / "train.wp_source").collect(store, silent)
    assert store.counts() == {"post": 2, "reply": 2, "observation": 0}  # they came without karma
    assert {reply.body for thread in store.threads() for reply in thread.replies} == {"Once . \n \n Twice .", "Never ."}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"comment_scores": [3]},
            r"row 1: lists of different lengths \(comment_texts: 3, comment_scores: 1, ",
        ),
        ({"comment_times": ["soon", "yesterday", "x"]}, "story 1: comment_times 'soon' is no time"),
        ({"post_title": None}, "story 1: no post_title"),
    ],
)
def test_bad_threads(tmp_path: Path, store: Store, change: dict[str, object], message: str) -> None:
    path = _write(tmp_path / "t.jsonl", [json.dumps({**THREAD, **change})])
    with pytest.raises(UserError, match=message):
        _composed("preferences", path).collect(store, silent)
    assert store.counts()["reply"] == 0


def test_bad_files(tmp_path: Path, store: Store) -> None:
    parquet, source = tmp_path / "t.parquet", tmp_path / "t.wp_source"
    parquet.write_text("no parquet")
    with pytest.raises(UserError, match="damaged or not parquet"):
        import_table(store, parquet, COLUMNS, subreddit="s")
    pq.write_table(pa.Table.from_pylist([{"prompt": "a", "text": "b", "ups": 3}]), parquet)
    with pytest.raises(UserError, match=r"no column for score: karma; it has prompt, text, ups"):
        import_table(store, parquet, COLUMNS, subreddit="s")
    _write(source, ["a", "b"])
    with pytest.raises(UserError, match=r"no t\.wp_target beside it"):
        import_table(store, source, {"title": "source", "body": "target", "score": "score"}, subreddit="s")
    _write(tmp_path / "t.wp_target", ["a"])
    with pytest.raises(UserError, match="different numbers of lines"):
        import_table(store, source, {"title": "source", "body": "target", "score": "score"}, subreddit="s")
    with pytest.raises(UserError, match="row 1 is no object"):
        import_table(store, _write(tmp_path / "t.jsonl", ["[1]"]), COLUMNS, subreddit="s")


def test_a_story_longer_than_a_csv_field_may_be(tmp_path: Path, store: Store) -> None:
    path = _write(tmp_path / "t.csv", ["prompt,text,karma", f"[WP] A.,{'word ' * 40_000},3"])
    assert import_table(store, path, COLUMNS, subreddit="s")["kept"] == 1


def test_a_bad_cell_costs_its_story_and_no_other(tmp_path: Path, store: Store) -> None:
    rows = [*ROWS, {**ROWS[0], "text": "three", "karma": "many"}, {**ROWS[0], "text": "four", "karma": float("nan")}]
    figures = import_table(store, _write(tmp_path / "t.jsonl", [json.dumps(row) for row in rows]), COLUMNS, subreddit="s")
    assert figures == {"read": 4, "kept": 3, "rejected": 1}
    assert store.counts() == {"post": 1, "reply": 3, "observation": 2}  # pandas writes NaN for what is missing
    write_rejects(store)
    (reject,) = map(json.loads, Path(f"{store.path}.rejects.jsonl").read_text().splitlines())
    assert (reject["source"], reject["offset"], reject["reason"]) == ("t.jsonl", 3, "karma 'many' is no whole number")


def test_excels_mark_blank_lines_and_other_line_breaks(tmp_path: Path, store: Store) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfprompt,text,karma\r\n[WP] A.,one,3\r\n")
    assert import_table(store, tmp_path / "t.csv", COLUMNS, subreddit="s")["kept"] == 1
    (tmp_path / "t.jsonl").write_text(json.dumps({**ROWS[1], "text": "a\u2028b"}, ensure_ascii=False) + "\n\n")
    assert import_table(store, tmp_path / "t.jsonl", COLUMNS, subreddit="s")["kept"] == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("20200101", 1577836800.0),
        ("2020-01-01", 1577836800.0),
        (1577836800, 1577836800.0),
        ("1577836800.5", 1577836800.5),
    ],
)
def test_times_are_seconds_or_dates(value: object, seconds: float | None) -> None:
    assert time_of(value, "at") == seconds


@pytest.mark.parametrize("value", [1577836800000, float("inf"), -1, "soon", True, []])
def test_what_is_no_time_is_told(value: object) -> None:
    with pytest.raises(ValueError, match="is no time"):
        time_of(value, "at")


def test_an_id_that_was_made_up_is_none_of_reddits(tmp_path: Path, store: Store) -> None:
    import_table(store, _write(tmp_path / "t.jsonl", [json.dumps(row) for row in ROWS]), COLUMNS, subreddit="s")
    assert changed_threads(store, "s") == []
    assert due(store, "s", [1.0], 9e9) == []
    assert orphaned_posts(store) == []
    assert store.rows(EVERYTHING) == []

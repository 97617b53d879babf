"""Tables into the store; every bad input gets its line."""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rfr import config
from rfr.collect.files.dumps import import_dump
from rfr.collect.files.table_import import TableContent, import_table
from rfr.collect.files.table_paths import table_name
from rfr.collect.files.table_source import TableSource
from rfr.collect.purge import EVERYTHING
from rfr.collect.shards import merge, new_shard
from rfr.errors import UserError
from rfr.reddit.backlog import changed_threads, due, orphaned_posts
from rfr.reddit.crawler import silent
from rfr.reddit.field_values import flag, time_of, whole_number
from rfr.store.rejects import write_rejects
from rfr.store.store import Store
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
            imported = import_table(store, table, TableContent(COLUMNS, "s"))
            assert (imported.read, imported.kept, imported.rejected) == (2, 2, 0)
            assert store.counts() == {"post": 1, "reply": 2, "observation": 2}
            digests.append(store.digest())
    assert len(set(digests)) == 1


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("t.jsonl", [json.dumps({"prompt": "a", "text": "b"})], "no column for score: karma"),
        ("t.jsonl", ["{broken"], "1 of 1 lines of .* are no JSON, the first is line 1"),
        ("t.jsonl", [json.dumps({**ROWS[0], "karma": "many"})], "line 1: karma 'many' is no whole number"),
        ("t.jsonl", [json.dumps({**ROWS[0], "karma": 1e400})], "karma inf is no whole number"),
        ("t.jsonl", [json.dumps({**ROWS[0], "karma": 3.7})], r"karma 3\.7 is no whole number"),
        ("t.jsonl", [json.dumps({**ROWS[0], "text": {"a": 1}})], r"text \{'a': 1\} is no text"),
        ("t.jsonl", [json.dumps({**ROWS[0], "prompt": 7})], "prompt 7 is no text"),
        ("t.jsonl", [json.dumps({**ROWS[0], "prompt": ""})], "no prompt"),
        ("t.jsonl", [json.dumps({**ROWS[0], "text": "\ud800"})], "half a character"),
        ("t.jsonl", ["[" * 200_000], "are no JSON"),
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
        import_table(store, _write(tmp_path / name, lines), TableContent(COLUMNS, "s"))
    assert store.counts()["reply"] == 0


def test_a_missing_table_and_a_missing_mapping(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UserError, match=r"source\.path"):
        import_table(store, tmp_path / "none.csv", TableContent(COLUMNS, "s"))
    table = _write(tmp_path / "t.jsonl", [json.dumps(ROWS[0])])
    with pytest.raises(UserError, match="must map score"):
        import_table(store, table, TableContent({"title": "prompt", "body": "text"}, "s"))


def test_the_real_table(shared_data: Path, store: Store) -> None:
    names = ("title", "body", "score", "post_id", "reply_id", "post_score", "post_created_utc")
    rows = import_table(
        store, shared_data / "writingprompts.jsonl.gz", TableContent({name: name for name in names}, "WritingPrompts")
    )
    assert (rows.read, rows.kept, rows.rejected) == (8923, 8923, 0)
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
    _composed("threads", path).collect(store, silent)
    assert store.counts() == {"post": 2, "reply": 6, "observation": 8}
    first = next(thread for thread in store.threads() if thread.post.title == "[WP] A lighthouse.")
    by_text = {reply.body: (first.observations[reply.id].score, reply.created_utc) for reply in first.replies}
    assert by_text == {"one": (3, 1500000000.0), "two": (5, 1500000001.0), "three": (-1, 1500000002.0)}
    assert first.post_observation is not None
    assert first.post_observation.score == 12


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
            r"line 1: lists of different lengths \(comment_texts: 3, comment_scores: 1, ",
        ),
        ({"comment_times": ["soon", "yesterday", "x"]}, "line 1: comment_times 'soon' is no time"),
        ({"post_title": None}, "line 1: no post_title"),
    ],
)
def test_bad_threads(tmp_path: Path, store: Store, change: dict[str, object], message: str) -> None:
    path = _write(tmp_path / "t.jsonl", [json.dumps({**THREAD, **change})])
    with pytest.raises(UserError, match=message):
        _composed("threads", path).collect(store, silent)
    assert store.counts()["reply"] == 0


def test_bad_files(tmp_path: Path, store: Store) -> None:
    parquet, source = tmp_path / "t.parquet", tmp_path / "t.wp_source"
    parquet.write_text("no parquet")
    with pytest.raises(UserError, match="damaged or not parquet"):
        import_table(store, parquet, TableContent(COLUMNS, "s"))
    pq.write_table(pa.Table.from_pylist([{"prompt": "a", "text": "b", "ups": 3}]), parquet)
    with pytest.raises(UserError, match=r"no column for score: karma; it has prompt, text, ups"):
        import_table(store, parquet, TableContent(COLUMNS, "s"))
    _write(source, ["a", "b"])
    with pytest.raises(UserError, match=r"no t\.wp_target beside it"):
        import_table(store, source, TableContent({"title": "source", "body": "target", "score": "score"}, "s"))
    _write(tmp_path / "t.wp_target", ["a"])
    with pytest.raises(UserError, match="different numbers of lines"):
        import_table(store, source, TableContent({"title": "source", "body": "target", "score": "score"}, "s"))
    with pytest.raises(UserError, match="are no JSON, the first is line 1: no JSON object"):
        import_table(store, _write(tmp_path / "t.jsonl", ["[1]"]), TableContent(COLUMNS, "s"))


def test_a_story_longer_than_a_csv_field_may_be(tmp_path: Path, store: Store) -> None:
    path = _write(tmp_path / "t.csv", ["prompt,text,karma", f"[WP] A.,{'word ' * 40_000},3"])
    assert import_table(store, path, TableContent(COLUMNS, "s")).kept == 1


def test_a_bad_cell_costs_its_story_and_no_other(tmp_path: Path, store: Store) -> None:
    rows = [*ROWS, {**ROWS[0], "text": "three", "karma": "many"}, {**ROWS[0], "text": "four", "karma": float("nan")}]
    figures = import_table(store, _write(tmp_path / "t.jsonl", [json.dumps(row) for row in rows]), TableContent(COLUMNS, "s"))
    assert (figures.read, figures.kept, figures.rejected) == (4, 3, 1)
    assert store.counts() == {"post": 1, "reply": 3, "observation": 2}  # pandas writes NaN for what is missing
    write_rejects(store)
    (reject,) = map(json.loads, Path(f"{store.path}.rejects.jsonl").read_text().splitlines())
    assert (reject["file"], reject["offset"], reject["reason"]) == (
        str(tmp_path / "t.jsonl"),
        3,
        "karma 'many' is no whole number",
    )


def test_excels_mark_blank_lines_and_other_line_breaks(tmp_path: Path, store: Store) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfprompt,text,karma\r\n[WP] A.,one,3\r\n")
    assert import_table(store, tmp_path / "t.csv", TableContent(COLUMNS, "s")).kept == 1
    (tmp_path / "t.jsonl").write_text(json.dumps({**ROWS[1], "text": "a\u2028b"}, ensure_ascii=False) + "\n\n")
    assert import_table(store, tmp_path / "t.jsonl", TableContent(COLUMNS, "s")).kept == 1


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
def test_a_value_that_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no time"):
        time_of(value, "at")


def test_an_id_that_was_made_up_is_none_of_reddits(tmp_path: Path, store: Store) -> None:
    import_table(store, _write(tmp_path / "t.jsonl", [json.dumps(row) for row in ROWS]), TableContent(COLUMNS, "s"))
    assert changed_threads(store, "s") == []
    assert due(store, "s", [1.0], 9e9) == []
    assert orphaned_posts(store) == []
    assert store.rows(EVERYTHING) == []


# --- files, folders and patterns


def _shards(folder: Path, count: int = 3) -> None:
    folder.mkdir()
    for number in range(count):
        rows = [{"prompt": f"[WP] {number}.", "text": f"story {number} {n}", "karma": n} for n in range(4)]
        _write(folder / f"train-{number}.jsonl", [json.dumps(row) for row in rows])


@pytest.mark.parametrize("path", ["shards", "shards/train-*.jsonl", "shards/*"])
def test_all_files_of_a_folder_or_a_pattern_are_one_import(tmp_path: Path, store: Store, path: str) -> None:
    _shards(tmp_path / "shards")
    imported = import_table(store, tmp_path / path, TableContent(COLUMNS, "s"))
    assert (imported.read, imported.import_number) == (12, 1)
    assert store.counts() == {"post": 3, "reply": 12, "observation": 12}
    (tmp_path / "shards" / "train-2.jsonl").write_text("no table\n")
    digest = store.digest()
    with pytest.raises(UserError, match=r"1 of 1 lines of .*train-2.jsonl are no JSON"):
        import_table(store, tmp_path / path, TableContent(COLUMNS, "s", seen_at=5.0))
    assert store.digest() == digest, "an import is stored whole or not at all"


def test_a_folder_without_tables_says_what_it_holds(tmp_path: Path, store: Store) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"no table at .*notes\.txt"):
        import_table(store, tmp_path / "f", TableContent(COLUMNS, "s"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("stories.jsonl.gz", "stories"), ("stories.v2.csv", "stories.v2"), ("shards", "shards"),
        ("shards/train-*.jsonl", "train"), ("shards/*", "shards"), ("train.wp_source", "train"), ("a.parquet", "a"),
    ],
)  # fmt: skip
def test_a_tables_store_is_called_as_its_file_or_folder(tmp_path: Path, path: str, name: str) -> None:
    _shards(tmp_path / "shards")
    if "shards" not in path:
        (tmp_path / path).write_text("")
    assert table_name(tmp_path / path) == name


def test_two_tables_are_two_stores_and_each_says_how_to_train_on_it(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    for name in ("mine", "theirs (2)"):
        _write(tmp_path / f"{name}.jsonl", [json.dumps({"title": "[WP] A.", "body": name, "score": 3})])
        code, out, err = command("collect", "source=table", f'source.path="{name}.jsonl"')
        assert (code, json.loads(out.splitlines()[-1])["store"]) == (0, f"data/{name}.db")
        assert err.splitlines()[-1] == (
            "python train.py corpus.path=data/mine.db"
            if name == "mine"
            else "python train.py 'corpus.path=\"data/theirs (2).db\"'"
        )
    _write(tmp_path / "t.wp_source", ["[ WP ] A ."])
    _write(tmp_path / "t.wp_target", ["Once ."])
    code, _, err = command("collect", "source=source_target", "source.path=t.wp_source")
    assert err.splitlines()[-1] == "python train.py corpus.path=data/t.db preprocess.scored_only=false objective=bc"


def test_columns_may_stand_beyond_the_first_row(tmp_path: Path, store: Store) -> None:
    rows = [{"prompt": "[WP] A.", "text": "one", "karma": 1}, {"prompt": "[WP] A.", "text": "two", "karma": 2, "who": "maud"}]
    table = _write(tmp_path / "t.jsonl", [json.dumps(row) for row in rows])
    assert import_table(store, table, TableContent({**COLUMNS, "author": "who"}, "s")).missing == ()
    assert dict(store.rows("SELECT body, author FROM reply")) == {"one": None, "two": "maud"}


def test_nanoseconds_become_microseconds(tmp_path: Path, store: Store) -> None:
    times = pa.array([1_600_000_000_123_456_789], pa.timestamp("ns"))
    table = pa.table({"prompt": ["[WP] A."], "text": ["one"], "karma": [3], "at": times})
    lists = pa.table(
        {"prompt": ["[WP] B."], "text": [["two"]], "karma": [[3]], "at": pa.array([[times[0]]], pa.list_(times.type))}
    )
    for name, rows in (("t", table), ("l", lists)):
        pq.write_table(rows, tmp_path / f"{name}.parquet")
        import_table(store, tmp_path / f"{name}.parquet", TableContent({**COLUMNS, "created_utc": "at"}, "s"))
    assert {time for (time,) in store.rows("SELECT created_utc FROM reply")} == {1_600_000_000.123456}


@pytest.mark.parametrize("wrap", ["plain", "gz", "xz"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_of_files_is_refused_by_name(tmp_path: Path, store: Store, kind: str, wrap: str) -> None:
    (tmp_path / "inner.csv").write_text("prompt,text,karma\na,b,3\n")
    archive = tmp_path / "archive"
    if kind == "tar":
        with tarfile.open(archive, "w") as tar:
            tar.add(tmp_path / "inner.csv", "inner.csv")
    else:
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(tmp_path / "inner.csv", "inner.csv")
    packs: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gz": gzip.compress, "xz": lzma.compress}
    packed = packs[wrap](archive.read_bytes())
    (tmp_path / "t.csv").write_bytes(packed)
    with pytest.raises(UserError, match=f"is a {kind} archive of files: unpack it"):
        import_table(store, tmp_path / "t.csv", TableContent(COLUMNS, "s"))
    with pytest.raises(UserError, match=f"is a {kind} archive of files: unpack it"):
        import_dump(store, tmp_path / "t.csv", "WritingPrompts")


def test_an_import_that_is_killed_leaves_nothing(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": "[WP] A.", "text": f"story {n}", "karma": n} for n in range(5000)]
    table = _write(tmp_path / "t.jsonl", [json.dumps(row) for row in rows])

    def killed(stories: int) -> None:
        if stories == 4000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_table(store, table, TableContent(COLUMNS, "s"), killed)
    assert store.counts() == {"post": 0, "reply": 0, "observation": 0}
    assert import_table(store, table, TableContent(COLUMNS, "s")).import_number == 1


def test_tables_merged_from_shards_count_by_the_order_of_merging(tmp_path: Path) -> None:
    for number, karma in enumerate((5, 9)):
        table = _write(
            tmp_path / f"{number}.jsonl", [json.dumps({**ROWS[0], "karma": karma}), json.dumps({**ROWS[0], "karma": "x"})]
        )
        with Store(new_shard(tmp_path / "s.db", str(number)), write=True) as part:
            import_table(part, table, TableContent(COLUMNS, "s"))
        assert merge(tmp_path / "s.db") == 1
    with Store(tmp_path / "s.db") as store:
        assert sorted(store.rows("SELECT score, import_number FROM observation")) == [(5, 1), (9, 2)]
        assert len(store.rows("SELECT 1 FROM reject")) == 2


# --- values


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), ("3", 3), (" -7 ", -7), ("1e3", 1000), ("5.0", 5), (9007199254740993, 9007199254740993),
     ("9007199254740993", 9007199254740993), (Decimal("4"), 4), ("", None), ("NaN", None), (float("nan"), None)],
)  # fmt: skip
def test_whole_numbers(value: object, number: int | None) -> None:
    assert whole_number(value, "n") == number


@pytest.mark.parametrize(
    "value", ["1,234", "1_000", "٣", "0x10", "1e999999999", "1" * 5000, 2**63, True, "True", "inf", 1e400, [], {}]
)
def test_values_that_are_no_whole_number_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"n .*is no whole number"):
        whole_number(value, "n")


@pytest.mark.parametrize(
    "value",
    ["0001-01-01", "9999-12-31", "2101-01-01T00:00:00", "1969-12-31", 1577836800000, "1577836800000", float("inf"), "1e400"],
)
def test_every_time_however_written_passes_one_range_check(value: object) -> None:
    with pytest.raises(ValueError, match="is no time"):
        time_of(value, "at")


@pytest.mark.parametrize(
    "value", [20240131, "20240131", 20240131.0, "2024-01-31 00:00:00 UTC", date(2024, 1, 31), "2024-01-31T01:00:00+01:00"]
)
def test_a_date_is_read_in_every_notation(value: object) -> None:
    assert time_of(value, "at") == 1706659200.0


@pytest.mark.parametrize(
    ("value", "flag_is"), [("TRUE", True), ("False", False), (1, True), ("0", False), (None, False), (0.0, False)]
)
def test_flags(value: object, flag_is: bool) -> None:
    assert flag(value, "f") is flag_is


@pytest.mark.parametrize("value", ["maybe", 2, -1, "1.0", [], "yes"])
def test_values_that_are_no_flag_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is neither true nor false"):
        flag(value, "f")

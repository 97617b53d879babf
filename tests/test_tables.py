"""Tables into the store; every bad input gets its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rfr.errors import UserError
from rfr.reddit.tables import import_table
from rfr.store import Store

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
            assert import_table(store, table, COLUMNS, subreddit="s") == 2
            assert store.counts() == {"post": 1, "reply": 2, "observation": 2}
            digests.append(store.digest())
    assert len(set(digests)) == 1


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("t.jsonl", [json.dumps({"prompt": "a", "text": "b"})], "no column for score: karma"),
        ("t.jsonl", ["{broken"], "damaged"),
        ("t.jsonl", [json.dumps({**ROWS[0], "karma": "many"})], "row 1: 'many' is no number"),
        ("t.txt", ["x"], "neither .jsonl nor .csv"),
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
    assert rows == 8923
    assert store.counts() == {"post": 522, "reply": 8923, "observation": 9445}

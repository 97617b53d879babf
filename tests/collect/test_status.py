"""What a store covers, and its Parquet export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rfr.collect.export import Export
from rfr.collect.status import HOUR, Status, ages, coverage, karma
from rfr.demo.source import DemoSource
from rfr.demo.subreddit import DemoSubreddit
from rfr.errors import UserError
from rfr.records import Observation, Post, Reply
from rfr.reddit.crawler import silent
from rfr.store.store import Origin, Store

POST = Post(id="p1", subreddit="s", title="[WP] One.", created_utc=0.0)
SCORES = (-3, 0, 1, 2, 3, 700)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six replies read an hour to six days after they were written, one of unknown time, one without a score."""
    store = Store(tmp_path / "s.db", write=True)
    replies = [Reply(id=f"r{i}", post_id="p1", body=f"story {i}", created_utc=0.0) for i in range(6)]
    hours = (1, 3, 35, 37, 100, 145)
    readings = [
        Observation(kind="reply", item_id=f"r{i}", seen_at=HOUR * hours[i], source="t", score=SCORES[i]) for i in range(6)
    ]
    readings.append(Observation(kind="reply", item_id="r0", seen_at=HOUR * 99, source="t", score=1, hidden=True))
    unknown = replace(replies[0], id="r6", created_utc=None)
    store.add([POST, *replies, unknown, replace(replies[0], id="r7"), *readings, replace(readings[0], item_id="r6", score=9)])
    store.note_gap("s/new", 10.0, 20.0, 30.0)
    store.reject(Origin("dump"), 5, "no JSON", b"{")
    return store


def test_ages_and_karma_count_every_reply_once(store: Store) -> None:
    assert ages(store, [2 * HOUR, 36 * HOUR, 168 * HOUR]) == {
        "under 2 h": 1, "2 to 36 h": 2, "36 to 168 h": 3, "168 h and more": 0, "unknown": 1, "no score": 1,
    }  # fmt: skip
    counted = karma(store)
    assert {name: count for name, count in counted.items() if count} == {
        "below 0": 1, "0": 1, "1": 1, "2 to 3": 2, "8 to 15": 1, "512 to 1,023": 1,
    }  # fmt: skip


def test_coverage(store: Store) -> None:
    covered = coverage(store, "s", [2 * HOUR], now=HOUR * 200)
    names = ("posts", "replies", "readings", "threads_to_read", "gaps", "rejects", "scores_due")
    counts = {name: covered[name] for name in names}
    assert counts == {
        "posts": 1, "replies": 8, "readings": 8, "threads_to_read": 1, "gaps": 1, "rejects": 1, "scores_due": 2,
    }  # fmt: skip


def test_status_of_an_empty_store_and_of_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "empty.db", write=True).close()
    source = DemoSource(demo=DemoSubreddit(threads=1))
    assert Status(ages_h=[2]).run(source, tmp_path / "empty.db", silent)["posts"] == 0
    assert "karma" in capsys.readouterr().out
    with pytest.raises(UserError, match="no store at"):
        Status(ages_h=[2]).run(source, tmp_path / "none.db", silent)


def test_equal_stores_give_equal_files_whatever_the_order(tmp_path: Path, demo_store: Path) -> None:
    source = DemoSource(demo=DemoSubreddit(threads=1))
    with Store(demo_store) as first, Store(tmp_path / "b.db", write=True) as second:
        for record, table in ((Observation, "observation"), (Reply, "reply"), (Post, "post")):
            second.add(reversed(list(first.select(record, table))))
        assert first.digest() == second.digest()
        posts, replies = first.counts()["post"], first.counts()["reply"]
    copy = tmp_path / "a.db"
    copy.write_bytes(demo_store.read_bytes())
    for name in ("a", "b"):
        Export(folder=str(tmp_path / f"{name}-parquet")).run(source, tmp_path / f"{name}.db", silent)
    for table in ("post", "reply", "observation"):
        one, other = (tmp_path / f"{name}-parquet" / f"{table}.parquet" for name in ("a", "b"))
        assert one.read_bytes() == other.read_bytes()
    table = pq.read_table(tmp_path / "a-parquet" / "reply.parquet")
    assert table.num_rows == replies > posts == 40
    keys = list(zip(table["post_id"].to_pylist(), table["id"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert set(table["body"].to_pylist()) - {"[deleted]", "[removed]"}
    assert pq.read_schema(tmp_path / "a-parquet" / "post.parquet").names == list(Post.__dataclass_fields__)


def test_an_export_of_no_store_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no store at"):
        Export(folder=str(tmp_path / "out")).run(DemoSource(demo=DemoSubreddit(threads=1)), tmp_path / "none.db", silent)
    assert not list(tmp_path.iterdir())

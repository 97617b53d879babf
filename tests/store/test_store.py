"""The ledger: transactions, append-only observations, a digest that does not depend on the order of collection."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from rfr.errors import UserError
from rfr.records import Observation, Post, Reply
from rfr.store.schema import FIRST, STEPS
from rfr.store.store import Origin, Store

POST = Post(id="p1", subreddit="s", title="[WP] One.", created_utc=0.0)
REPLIES = [Reply(id=f"r{i}", post_id="p1", body=f"story {i}", created_utc=float(i)) for i in range(3)]


def _reading(item: str, seen_at: float, score: int | None, hidden: bool = False) -> Observation:
    return Observation(kind="reply", item_id=item, seen_at=seen_at, source="test", score=score, hidden=hidden)


def test_newest_visible_reading_counts_and_none_is_lost(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        with store.transaction():
            store.add([POST, *REPLIES, _reading("r0", 1, 5), _reading("r0", 3, 1, hidden=True), _reading("r0", 2, 7)])
            store.add([_reading("r0", 2, 7)])  # the same reading again
        (thread,) = store.threads()
        assert thread.observations["r0"].score == 7
        assert store.counts() == {"post": 1, "reply": 3, "observation": 3}
        assert [reply.id for reply in thread.replies] == ["r0", "r1", "r2"]


def test_digest_ignores_the_order_of_collection(tmp_path: Path) -> None:
    records: list[Post | Reply | Observation] = [POST, *REPLIES, *(_reading(f"r{i}", 9, i) for i in range(3))]
    digests = []
    for name, order in (("a", records), ("b", records[::-1]), ("c", [*records, *records])):
        with Store(tmp_path / name, write=True) as store:
            store.add(order)
            digests.append(store.digest())
    assert digests[0] == digests[1] == digests[2]


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        with pytest.raises(RuntimeError), store.transaction():
            store.add([POST])
            raise RuntimeError("cut off")
        assert store.counts()["post"] == 0


def test_orphan_replies_are_no_thread(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        store.add(
            [Reply(id="x", post_id="a-before", body="orphan"), POST, *REPLIES, Reply(id="y", post_id="z-after", body="orphan")]
        )
        assert [len(thread.replies) for thread in store.threads()] == [3]


def _versions() -> list[Reply]:
    """One reply as read at three times, the last without its text; and once at an unknown time."""
    first = REPLIES[0]
    return [
        replace(first, seen_at=None, body="from a table"),
        replace(first, seen_at=10.0, body="as written"),
        replace(first, seen_at=20.0, body="as edited"),
        replace(first, seen_at=30.0, body="[deleted]", author=None),
    ]


def test_the_newest_text_wins_in_whatever_order_it_comes(tmp_path: Path) -> None:
    digests, bodies = set(), set()
    for number, order in enumerate(permutations(_versions())):
        with Store(tmp_path / f"{number}.db", write=True) as store:
            store.add([POST, *order])
            digests.add(store.digest())
            bodies |= {reply.body for thread in store.threads() for reply in thread.replies}
    assert number == 23
    assert bodies == {"[deleted]"}
    assert len(digests) == 1


def test_two_texts_read_at_once_are_ranked_by_content(tmp_path: Path) -> None:
    one, other = (replace(POST, seen_at=5.0, title=title) for title in ("[WP] A.", "[WP] B."))
    digests = set()
    for name, order in (("a", [one, other]), ("b", [other, one])):
        with Store(tmp_path / name, write=True) as store:
            store.add(order)
            digests.add(store.digest())
    assert len(digests) == 1


def test_a_table_that_knows_less_takes_nothing_away(tmp_path: Path) -> None:
    """An author or a time that a source doesn't know was not deleted, however late it was read."""
    full = replace(REPLIES[0], author="maud", created_utc=100.0, seen_at=5.0)
    poor = replace(REPLIES[0], author=None, created_utc=None, seen_at=9.0, body="longer, but from a table")
    timeless = replace(REPLIES[0], created_utc=None, seen_at=None)
    for order in permutations((full, poor, timeless)):
        with Store(tmp_path / f"{order.index(full)}{order.index(poor)}.db", write=True) as store:
            store.add([POST, *order])
            assert store.rows("SELECT author, created_utc, body FROM reply") == [("maud", 100.0, full.body)]
            assert store.rows("SELECT * FROM residue WHERE kind = 'author'") == []


def test_a_deletion_that_is_known_of_wins_whenever_it_was_read(tmp_path: Path) -> None:
    gone = replace(REPLIES[0], seen_at=5.0, body="[deleted]", author="[deleted]", deleted=True)
    digests = set()
    for number, order in enumerate(permutations([gone, replace(REPLIES[0], seen_at=9.0, body="alive", author="maud")])):
        with Store(tmp_path / f"{number}.db", write=True) as store:
            store.add([POST, *order])
            assert store.rows("SELECT body FROM reply") == [("[deleted]",)]
            digests.add(store.digest())
    assert len(digests) == 1


def test_only_readings_without_a_time_depend_on_the_order_of_their_imports(tmp_path: Path) -> None:
    """A number is part of such a reading, and of the digest; texts, and readings that have times, do not depend on order."""
    digests, untimed_digests = set(), set()
    timed: list[Post | Reply | Observation] = [POST, *REPLIES[:2], _reading("r0", 9.0, 4), _reading("r0", 8.0, 7)]
    for number, order in enumerate(permutations(timed)):
        with Store(tmp_path / f"{number}.db", write=True) as store:
            store.add(order)
            digests.add(store.digest())
            (thread,) = store.threads()
            assert thread.observations["r0"].score == 4
    for name, scores in (("ab", (400, 380)), ("ba", (380, 400))):
        with Store(tmp_path / f"{name}.db", write=True) as store:
            store.add([POST, REPLIES[0]])
            for score in scores:
                store.add([replace(_reading("r0", 9.0, score), seen_at=None, import_number=store.next_import())])
            untimed_digests.add(store.digest())
            (thread,) = store.threads()
            assert thread.observations["r0"].score == scores[1]
    assert (len(digests), len(untimed_digests)) == (1, 2)


def test_how_often_one_looked_is_no_part_of_the_digest(tmp_path: Path) -> None:
    digests = set()
    for number, files in enumerate((["a"], ["a", "b"])):
        with Store(tmp_path / f"{number}.db", write=True) as store:
            for file in files:
                store.reject(Origin("dump", file), number, "no JSON", b"{")
            digests.add(store.digest())
    assert len(digests) == 1


def test_a_store_where_nothing_can_be_written_can_be_read(tmp_path: Path) -> None:
    """As somebody who may not write there: root may write anywhere."""
    folder = Path(tempfile.mkdtemp())
    with Store(folder / "s.db", write=True) as store:
        store.add([POST, *REPLIES])
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        if root := os.geteuid() == 0:
            os.seteuid(65534)
        with Store(folder / "s.db") as store:
            assert store.counts()["reply"] == len(REPLIES)
        with pytest.raises(UserError, match=r"can't write to .*: make it writable") as refused:
            Store(folder / "s.db", write=True)
        assert "another process" not in str(refused.value)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_store_of_the_fourth_version_keeps_its_readings_apart(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.db")
    old.executescript(f"""{"".join(STEPS[:4])} PRAGMA user_version = 4;
        INSERT INTO post (id, subreddit, title, body, stickied) VALUES ('p1', 's', '[WP] One.', '', 0);
        INSERT INTO reply (id, post_id, body, stickied) VALUES ('r0', 'p1', 'story 0', 0);
        INSERT INTO observation (item_id, seen_at, source, score, hidden)
            VALUES ('r0', 9.0, 'test', 4, 0), ('p1', 9.0, 'test', 5, 0);
        INSERT INTO tombstone VALUES ('r9', 'text'); INSERT INTO reject VALUES ('dump', 3, 'no JSON', x'7b');""")
    old.close()
    with Store(tmp_path / "old.db") as store:
        assert store.rows("SELECT kind, item_id, score FROM observation ORDER BY score") == [
            ("reply", "r0", 4),
            ("post", "p1", 5),
        ]
        (thread,) = store.threads()
        assert (thread.observations["r0"].score, thread.post_observation and thread.post_observation.score) == (4, 5)


def test_a_foreign_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    for version in (0, 3, 99):
        path = tmp_path / f"{version}.db"
        other = sqlite3.connect(path)
        other.executescript(f"CREATE TABLE t (x); PRAGMA user_version = {version};")
        other.close()
        before = path.read_bytes()
        for write in (False, True):
            with pytest.raises(UserError, match="schema version"):
                Store(path, write=write)
        assert path.read_bytes() == before


def test_a_path_that_cannot_hold_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        Store(tmp_path, write=True)


def test_a_locked_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **options: real(path, **options, timeout=0.1))
    with Store(tmp_path / "s.db", write=True) as store:
        other = real(tmp_path / "s.db")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="another program keeps"), store.transaction():
            pass
        other.close()


def test_a_second_writer_is_told_and_readers_are_let_in(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        store.add([POST])
        with pytest.raises(UserError, match="another process is writing"):
            Store(tmp_path / "s.db", write=True)
        with Store(tmp_path / "s.db") as reader:
            assert reader.counts()["post"] == 1
    Store(tmp_path / "s.db", write=True).close()


def test_a_store_of_the_first_version_is_carried_over(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.db")
    old.executescript(f"""{FIRST} PRAGMA user_version = 1;
        INSERT INTO post VALUES ('p1', 's', '[WP] One.', '', NULL, 0.0, NULL, 0, NULL);
        INSERT INTO reply VALUES ('r0', 'p1', 'story 0', NULL, 0.0, 0, NULL);
        INSERT INTO observation VALUES ('r0', 9.0, 'test', 4, 0);""")
    old.close()
    with Store(tmp_path / "old.db") as carried, Store(tmp_path / "new.db", write=True) as new:
        new.add([POST, REPLIES[0], _reading("r0", 9.0, 4)])
        assert carried.digest() == new.digest()


def test_bad_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run collect\.py first"):
        Store(tmp_path / "missing.db")
    (tmp_path / "text.db").write_text("no database at all, but long enough to have been one" * 20)
    with pytest.raises(UserError, match="no rfr store"):
        Store(tmp_path / "text.db")
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.executescript("CREATE TABLE t (x); PRAGMA user_version = 99;")
    newer.close()
    with pytest.raises(UserError, match="schema version 99"):
        Store(tmp_path / "newer.db")

"""What is remembered about a store holds as long as the store stays as it was, and no longer."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from rfr.records import Post
from rfr.store.store import Store
from rfr.utils import cache
from rfr.utils.cache import build_once, memoised


class Digest:
    """Counts how often it is worked out."""

    def __init__(self, store: Store) -> None:
        self._store, self.times = store, 0

    def __call__(self) -> str:
        self.times += 1
        return self._store.digest()


@pytest.fixture
def own_store(demo_store: Path, tmp_path: Path) -> Path:
    """A copy that stands long enough to be remembered."""
    path = tmp_path / "own.db"
    path.write_bytes(demo_store.read_bytes())
    return path


def test_an_unchanged_stores_digest_is_remembered(own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "YOUNG_S", 0.0)
    with Store(own_store) as store:
        work = Digest(store)
        assert len({memoised(tmp_path / "cache", own_store, work) for _ in range(3)}) == 1
        assert work.times == 1
        assert memoised(tmp_path / "other cache", own_store, work) == store.digest()


def test_a_store_that_was_only_read_in_between_is_remembered(
    own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from one run to the next: SQLite makes a log when a store is opened, and removes it when it is closed."""
    monkeypatch.setattr(cache, "YOUNG_S", 0.0)
    for times in (1, 0, 0):
        with Store(own_store) as store:
            assert list(store.threads()), "reading opens the log"
            assert Path(f"{own_store}-wal").exists()
            work = Digest(store)
            memoised(tmp_path, own_store, work)
            assert work.times == times
        assert not Path(f"{own_store}-wal").exists()


def test_a_change_that_is_only_in_the_log_is_seen(own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "YOUNG_S", 0.0)
    with Store(own_store) as store:
        before, size = memoised(tmp_path, own_store, Digest(store)), own_store.stat().st_size
    with Store(own_store, write=True) as store:
        posts = list(store.select(Post, "post LIMIT 1", ()))
        store.add([replace(posts[0], id="another")])
        with Store(own_store) as reader:
            work = Digest(reader)
            assert own_store.stat().st_size == size, "the new post is in the log, or this tests nothing"
            assert Path(f"{own_store}-wal").stat().st_size
            assert memoised(tmp_path, own_store, work) == reader.digest() != before
            assert work.times == 1
    with Store(own_store) as store:
        assert memoised(tmp_path, own_store, Digest(store)) == store.digest() != before


def test_a_young_store_is_not_remembered(own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes within one tick of the file system's clock look alike."""
    with Store(own_store) as store:
        work = Digest(store)
        for times in (1, 2):
            memoised(tmp_path, own_store, work)
            assert work.times == times
        monkeypatch.setattr(time, "time", lambda: own_store.stat().st_ctime + 60)
        for _ in range(2):
            memoised(tmp_path, own_store, work)
            assert work.times == 3


def test_a_file_in_the_way_is_removed_and_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "file").write_text("made")

    def fail(folder: Path) -> None:
        (folder / "story").write_text("half")
        raise KeyboardInterrupt

    for name in ("key", "key.partial"):
        (tmp_path / name).write_text("a file where a folder should be")
    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path, "key", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]
    assert (build_once(tmp_path, "key", build) / "file").read_text() == "made"


@pytest.mark.parametrize("note", ["", "not json", "[]", '{"state": []}'])
def test_a_damaged_note_is_worked_out_again(own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: str) -> None:
    monkeypatch.setattr(cache, "YOUNG_S", 0.0)
    with Store(own_store) as store:
        memoised(tmp_path / "cache", own_store, Digest(store))
        (left,) = (tmp_path / "cache").iterdir()
        left.write_text(note)
        work = Digest(store)
        assert memoised(tmp_path / "cache", own_store, work) == store.digest()
        assert work.times == 1

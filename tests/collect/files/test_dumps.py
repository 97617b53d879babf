"""Monthly dumps: every line accounted for, every format read, damage told from the end, resumed where it stopped."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import zstandard

from rfr.collect.files import dumps, line_search
from rfr.collect.files.decompress import Damaged
from rfr.collect.files.dumps import ImportState, Reject, import_dump, to_records
from rfr.collect.files.line_search import blocks_with
from rfr.collect.shards import merge, new_shard, remove_if_empty, shards_folder
from rfr.errors import UserError
from rfr.store.rejects import write_rejects
from rfr.store.store import Store
from tests.conftest import ROOT

NAME = "WritingPrompts"
POST = {"id": "p1", "subreddit": NAME, "title": "[WP] One.", "selftext": "", "author": "a", "created_utc": 1.0, "score": 9,
        "retrieved_on": 5, "num_comments": 3}  # fmt: skip
REPLY = {"id": "r1", "subreddit": NAME, "body": "Once.", "author": "b", "created_utc": "2", "score": 4, "link_id": "t3_p1",
         "parent_id": "t3_p1", "retrieved_on": 6, "_meta": {"retrieved_2nd_on": 99}}  # fmt: skip
ELSEWHERE = {**REPLY, "id": "r9", "subreddit": "cats", "body": f"better than r/{NAME}"}
NESTED = {**REPLY, "id": "r2", "parent_id": "t1_r1"}
BAD = [
    b'{"subreddit": "WritingPrompts", "id": ',
    b'{"subreddit": "WritingPrompts", "id": "x", "body": "\xff", "parent_id": "t3_p1"}',
    b'{"subreddit": "WritingPrompts", "id": "x", "body": "\\ud800", "parent_id": "t3_p1"}',
    b'["WritingPrompts"]',
    json.dumps({**REPLY, "id": None}).encode(),
    json.dumps({**REPLY, "score": "many"}).encode(),
    json.dumps({**REPLY, "created_utc": "soon"}).encode(),
    json.dumps({**REPLY, "body": 7}).encode(),
    json.dumps({**REPLY, "score": 2**63}).encode(),
    json.dumps({**REPLY, "score": None}).replace("null", "1e999").encode(),
    json.dumps({**REPLY, "score": True}).encode(),
    json.dumps({**REPLY, "num_comments": "3 comments"}).encode(),
    json.dumps({**REPLY, "parent_id": None, "link_id": None}).encode(),
    json.dumps([REPLY]).encode(),
    json.dumps({key: value for key, value in REPLY.items() if key not in ("parent_id", "link_id")}).encode(),
]


def _lines(count: int = 400) -> list[bytes]:
    """A dump in which one line in four is ours."""
    rng = random.Random(0)
    others: list[dict[str, Any]] = [
        {"id": f"x{i}", "subreddit": "cats", "body": "meow " * rng.randrange(40)} for i in range(count)
    ]
    for i in range(0, count, 4):
        others[i] = {**REPLY, "id": f"r{i}", "body": "word " * rng.randrange(200), "score": i}
    return [json.dumps(line).encode() for line in [POST, *others]]


def _zstd(data: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def _frames(data: bytes) -> bytes:
    return _zstd(data[: len(data) // 3]) + _zstd(data[len(data) // 3 :])


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": _zstd, "zst, many frames": _frames,
}  # fmt: skip


def _imported(path: Path, store_path: Path) -> tuple[ImportState, str]:
    with Store(store_path, write=True) as store:
        return import_dump(store, path, NAME), store.digest()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_store(tmp_path: Path, name: str) -> None:
    plain, packed = tmp_path / "RC_2024-01", tmp_path / "RC_2024-01.wrong_extension"
    plain.write_bytes(b"\n".join(_lines()) + b"\n")
    packed.write_bytes(FORMATS[name](plain.read_bytes()))
    state, digest = _imported(packed, tmp_path / "packed.db")
    assert (state.read, state.kept, state.rejected) == (401, 101, 0)
    assert digest == _imported(plain, tmp_path / "plain.db")[1]


def test_every_line_is_accounted_for(tmp_path: Path) -> None:
    dump = tmp_path / "RC"
    good = [json.dumps(line).encode() for line in (POST, REPLY, ELSEWHERE, NESTED)]
    dump.write_bytes(b"\n".join([*good, *BAD, b"", b"no newline at the end of this one"]))
    with Store(tmp_path / "s.db", write=True) as store:
        state = import_dump(store, dump, NAME)
        assert (state.read, state.kept, state.filtered, state.rejected) == (4 + len(BAD) + 2, 2, 4, len(BAD))
        write_rejects(store)
        (thread,) = store.threads()
    rejects = [json.loads(line) for line in Path(f"{tmp_path}/s.db.rejects.jsonl").read_text().splitlines()]
    assert len(rejects) == len(BAD)
    whole = dump.read_bytes()
    for row, bad in zip(rejects, BAD, strict=True):
        assert whole[row["offset"] :].startswith(bad)
        assert row["reason"]
    assert [reply.id for reply in thread.replies] == ["r1"]
    assert thread.observations["r1"].seen_at == 99
    assert thread.replies[0].created_utc == 2.0


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "plain"])
@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_damage_is_told_from_the_end(tmp_path: Path, name: str, harm: str) -> None:
    data = bytearray(FORMATS[name](b"\n".join(_lines(4000))))
    dump = tmp_path / "RC"
    if harm == "cut":
        del data[-len(data) // 4 :]
    else:
        data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    dump.write_bytes(data)
    with pytest.raises(Damaged, match="cut off or damaged"):
        _imported(dump, tmp_path / "s.db")
    dump.write_bytes(FORMATS[name](b"\n".join(_lines(4000))))  # fetched again
    state, digest = _imported(dump, tmp_path / "s.db")
    assert state.read == 4001
    assert digest == _imported(dump, tmp_path / "whole.db")[1]


def test_an_import_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "COMMIT_BYTES", 2500)  # a few blocks each
    monkeypatch.setattr(dumps, "chunks", lambda path: _pieces(path.read_bytes(), 1000))
    dump = tmp_path / "RC"
    dump.write_bytes(b"\n".join(_lines()))
    stops = 0
    with Store(tmp_path / "s.db", write=True) as store:
        state, before = ImportState(), ImportState()
        while not state.done:
            try:
                state = import_dump(store, dump, NAME, _stop_after(2))
            except KeyboardInterrupt:
                stops += 1
                now = json.loads(store.cursor(f"dump/{NAME}/{dumps.fingerprint(dump)}") or "")
                assert now["offset"] > before.offset
                before = ImportState(**now)
        digest = store.digest()
    assert stops > 5
    assert (state.read, state.kept) == (401, 101)
    assert digest == _imported(dump, tmp_path / "at-once.db")[1]


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _stop_after(commits: int) -> Callable[[ImportState], None]:
    done = 0

    def progress(_: ImportState) -> None:
        nonlocal done
        done += 1
        if done == commits:
            raise KeyboardInterrupt

    return progress


def test_a_finished_file_is_not_read_again_and_order_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts, replies = tmp_path / "RS", tmp_path / "RC"
    posts.write_bytes(json.dumps(POST).encode())
    replies.write_bytes(b"\n".join(_lines()[1:]))
    digests = set()
    for name, order in (("a", [posts, replies]), ("b", [replies, posts, replies])):
        for path in order:
            _, digest = _imported(path, tmp_path / name)
        digests.add(digest)
    assert len(digests) == 1
    monkeypatch.setattr(dumps, "chunks", lambda path: pytest.fail("read again"))
    assert _imported(posts, tmp_path / "a")[0].read == 1


@pytest.mark.parametrize("seed", range(30))
def test_lines_are_found_however_the_bytes_come(seed: int) -> None:
    rng = random.Random(seed)
    written = [
        b"ab " * rng.randrange(9) + (b"NEEDLE" if rng.random() < 0.3 else b"") + b"z" * rng.randrange(5) for _ in range(30)
    ]
    data = b"\n".join(written) + (b"\n" if seed % 2 else b"")
    whole = data.split(b"\n")[: -1 if data.endswith(b"\n") else None]
    starts = [sum(len(line) + 1 for line in whole[:i]) for i in range(len(whole))]
    first = rng.randrange(len(whole))
    blocks = list(blocks_with(b"NEEDLE", _pieces(data, rng.randint(1, 70)), skip=starts[first]))
    expected = [(s, line) for s, line in zip(starts[first:], whole[first:], strict=True) if b"NEEDLE" in line]
    assert [hit for block in blocks for hit in block.hits] == expected
    assert sum(block.lines for block in blocks) == len(whole) - first
    assert blocks[-1].end == len(data)


@pytest.mark.parametrize("ours", [True, False])
def test_a_line_without_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    monkeypatch.setattr(line_search, "LONGEST_LINE_BYTES", 5000)
    endless = b"x" * 20_000 + (b"NEEDLE" if ours else b"") + b"x" * 20_000
    blocks = list(blocks_with(b"NEEDLE", _pieces(b"a\n" + endless + b"\nNEEDLE\n", 997)))
    assert sum(block.lines for block in blocks) == 3
    assert [hit for block in blocks for hit in block.hits] == [(2 + len(endless) + 1, b"NEEDLE")]
    too_long = [long for block in blocks for long in block.too_long]
    assert too_long == ([(2, b"x" * line_search.SHOWN_BYTES)] if ours else [])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"created_utc": "12"}, {"created_utc": 12.0}),
        ({"retrieved_on": None, "_meta": None, "retrieved_utc": 8}, {"seen_at": 8.0}),
        ({"_meta": {}}, {"seen_at": 6.0}),
        ({"score": None}, {"score": None}),
        ({"score": 3.0}, {"score": 3}),
        ({"author": None}, {"author": None}),
        ({"author": "[deleted]", "body": "[deleted]"}, {"author": "[deleted]", "body": "[deleted]"}),
        ({"score_hidden": True}, {"hidden": True}),
        ({"subreddit": "writingprompts"}, {"body": "Once."}),
    ],
)
def test_the_schemas_of_all_months(change: dict[str, Any], expected: dict[str, Any]) -> None:
    reply, reading = to_records(json.dumps({**REPLY, **change}).encode(), NAME)
    values = {**vars(reading), **vars(reply), "seen_at": reading.seen_at}
    assert {name: values[name] for name in expected} == expected


def test_a_file_that_is_no_dump_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\x89PNG....")
    for path, message in ((tmp_path / "none", "no dump at"), (tmp_path / "picture", "is no dump")):
        with pytest.raises(UserError, match=message):
            _imported(path, tmp_path / "s.db")
    with pytest.raises(Reject, match="no JSON"):
        to_records(b"{", NAME)


def test_genuine_dump_records_import_with_no_reject(shared_data: Path, tmp_path: Path) -> None:
    read = kept = 0
    for name in ("test_comments.json", "test_submissions.json"):
        path = shared_data / "pushshift" / name
        for subreddit in {json.loads(line)["subreddit"] for line in path.read_text().splitlines()}:
            with Store(tmp_path / f"{subreddit}.db", write=True) as store:
                state = import_dump(store, path, subreddit)
            assert state.rejected == 0
            kept += state.kept
        read += state.read
    assert read == 58
    assert kept > 31  # the submissions and the top-level comments


JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.mark.parametrize("launcher", [(), pytest.param(JOBLIB, marks=pytest.mark.slow)])
def test_many_files_at_once_give_the_store_of_one_after_the_other(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    lines = _lines()
    for number in range(3):
        (tmp_path / f"RC_2024-0{number}").write_bytes(b"\n".join(lines[number::3]) + b"\n")
    (tmp_path / "RC_2024-03").write_bytes(gzip.compress(b"\n".join([*lines[:9], BAD[0]]))[:-9])  # cut off
    with Store(tmp_path / "one.db", write=True) as store:
        for number in range(4):
            with suppress(Damaged):
                import_dump(store, tmp_path / f"RC_2024-0{number}", NAME)
        digest = store.digest()
    paths = ",".join(str(tmp_path / f"RC_2024-0{number}") for number in range(4))
    command = [sys.executable, "collect.py", "-m", "source=dump", f"source.path={paths}", f"store={tmp_path}/many.db", *launcher]
    command += [f"runs_dir={tmp_path}/runs"]
    for attempt in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr  # the damaged file's
        assert "is cut off or damaged" in done.stderr
        assert not (tmp_path / "many.db.parts").exists()
        last = json.loads(done.stdout.splitlines()[-1])
        assert last["digest"] == digest, f"attempt {attempt} {done.stderr}"
        assert last["reply"] > 50


def test_parts_that_an_interrupted_multirun_left_are_merged_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "RC_2024-01").write_bytes(b"\n".join(_lines()))
    with Store(new_shard(tmp_path / "s.db", "left"), write=True) as part:
        import_dump(part, tmp_path / "RC_2024-01", NAME)
        digest, counts = part.digest(), part.counts()
    assert merge(tmp_path / "s.db") == 1
    assert shards_folder(tmp_path / "s.db").is_dir(), "another job may be about to put its part there"
    with Store(tmp_path / "s.db") as store:
        assert (store.digest(), store.counts()) == (digest, counts)
    with Store(new_shard(tmp_path / "s.db", "next"), write=True) as part:
        state = import_dump(part, tmp_path / "RC_2024-01", NAME)  # known as done
        assert state.done
        assert part.counts()["reply"] == 0


def test_a_line_too_long_is_a_reject_however_it_was_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_search, "LONGEST_LINE_BYTES", 5000)
    data = b"\n".join(json.dumps({**REPLY, "id": f"r{n}", "body": "x" * n}).encode() for n in (10, 4000, 5000, 20_000, 100_000))
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "gz").write_bytes(gzip.compress(data))
    (tmp_path / "zst").write_bytes(_zstd(data))
    counts = set()
    for kind in ("plain", "gz", "zst"):
        with Store(tmp_path / f"{kind}.db", write=True) as store:
            state = import_dump(store, tmp_path / kind, NAME)
            counts.add((state.kept, state.rejected, *store.counts().values()))
    assert counts == {(2, 3, 0, 2, 2)}


def test_rejects_name_their_file(tmp_path: Path) -> None:
    (tmp_path / "RC_2024-01").write_bytes(BAD[0] + b"\n" + json.dumps(REPLY).encode())
    with Store(tmp_path / "s.db", write=True) as store:
        import_dump(store, tmp_path / "RC_2024-01", NAME)
        write_rejects(store)
        assert json.loads((tmp_path / "s.db.rejects.jsonl").read_text())["file"] == str(tmp_path / "RC_2024-01")


def test_a_part_sets_no_other_files_mark_back(tmp_path: Path) -> None:
    """Every part begins with copies of all marks; the one merged last must not bring back what another one moved."""
    for number in range(2):
        (tmp_path / f"RC_2024-0{number}").write_bytes(b"\n".join(_lines()[number::2]))
    with Store(tmp_path / "s.db", write=True) as store, store.transaction():
        for number in range(2):  # both begun, neither far
            name = dumps.fingerprint(tmp_path / f"RC_2024-0{number}")
            store.set_cursor(f"dump/{NAME}/{name}", json.dumps(asdict(ImportState())))
    parts = [new_shard(tmp_path / "s.db", f"part{number}") for number in range(2)]
    for number, part in enumerate(parts):
        with Store(part, write=True) as store:
            import_dump(store, tmp_path / f"RC_2024-0{number}", NAME)
    assert merge(tmp_path / "s.db") == 2
    assert not any(shards_folder(tmp_path / "s.db").iterdir())
    remove_if_empty(tmp_path / "s.db")
    assert not shards_folder(tmp_path / "s.db").exists()
    with Store(tmp_path / "s.db") as store:
        assert len(store.rows("SELECT name FROM cursor WHERE name LIKE 'dump/%'")) == 2
        for number in range(2):
            assert json.loads(store.cursor(f"dump/{NAME}/{dumps.fingerprint(tmp_path / f'RC_2024-0{number}')}") or "{}")["done"]

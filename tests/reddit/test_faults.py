"""Twenty faults for a collector, one test each: the run goes on or ends with a clear line, and the store stays whole."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from rfr.collect.files.decompress import Damaged
from rfr.collect.files.dumps import import_dump
from rfr.demo.fake_reddit import FakeReddit
from rfr.demo.faults import Fault, Faults, answers, cuts_body, edits, hangs, resets, sends_headers
from rfr.demo.loopback import fake_login
from rfr.demo.subreddit import EPOCH, SUBREDDIT, DemoSubreddit
from rfr.errors import RedditDown, UserError
from rfr.records import Post, Reply, Thread
from rfr.reddit.client import connect
from rfr.reddit.clock import Clock, FastClock
from rfr.reddit.crawler import Crawler
from rfr.reddit.passes import crawl_once
from rfr.store.store import Store
from tests.conftest import ROOT

THREADS = list(DemoSubreddit(threads=12))[-6:]
assert max(len(thread.replies) for thread in THREADS) > 25  # so that /api/info is asked
REPLIES = sum(len(thread.replies) for thread in THREADS)
NAME = "WritingPrompts"
PATHS = ("/r/", "/comments/", "/api/info", "/api/v1/access_token")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.db", write=True)


def _crawl(store: Store, fake: FakeReddit, clock: Clock | None = None, **options: Any) -> None:
    async def run() -> None:
        time = clock or FastClock(start=EPOCH + 90 * 86400, speed=1000)
        async with fake.serve() as url, connect(time, **options, **fake_login(url)) as client:
            await crawl_once(Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=time))

    asyncio.run(run())


def _survives(store: Store, faults: Iterable[Fault], paths: Iterable[str] = PATHS) -> None:
    """With these faults on each of the paths, everything arrives in the end."""
    planned = Faults({path: list(faults) for path in paths})
    assert planned.left > 0
    _crawl(store, FakeReddit(THREADS, faults=planned))
    assert planned.left == 0
    _is_whole(store)


def _is_whole(store: Store, posts: int = len(THREADS), replies: int = REPLIES) -> None:
    assert store.rows("PRAGMA integrity_check") == [("ok",)]
    counts = store.counts()
    assert (counts["post"], counts["reply"]) == (posts, replies)


def _info_edit(change: Callable[[list], list]) -> Fault:
    return edits(lambda page: {**page, "data": {**page["data"], "children": change(page["data"]["children"])}})


def test_fault_01_429_with_seconds_a_date_or_nothing(store: Store) -> None:
    _survives(store, [answers(429, retry_after="3"), answers(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), answers(429)])


def test_fault_02_bursts_of_5xx_and_529(store: Store) -> None:
    _survives(store, [answers(500), answers(502), answers(503), answers(504), answers(520), answers(529)])


def test_fault_03_a_hang_and_nobody_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfr.reddit.client.TIMEOUT_S", 0.2)
    _survives(store, [hangs(3)], ["/comments/"])

    async def refused() -> None:
        clock = FastClock(start=EPOCH, speed=1000)
        async with connect(clock, patience_s=60, **fake_login("http://127.0.0.1:9")) as client:
            await client.get("r/x/new")

    with pytest.raises(RedditDown, match="did not answer for 60 s"):
        asyncio.run(refused())


def test_fault_04_resets_and_cut_bodies(store: Store) -> None:
    _survives(store, [resets, cuts_body, cuts_body])


def test_fault_05_a_200_of_html_of_nothing_of_null_of_an_error(store: Store) -> None:
    error = answers(200, '{"message": "Internal Server Error", "error": 500}')
    _survives(store, [answers(200, "<html></html>"), answers(200), answers(200, "null"), error])


def test_fault_06_rate_headers_missing_fractional_or_garbled(store: Store) -> None:
    odd = [{"x_ratelimit_reset": "3.5"}, {"x_ratelimit_remaining": "-1"}, {"x_ratelimit_remaining": "soon"}]
    _survives(store, [sends_headers(**headers) for headers in odd], ["/comments/"])


def test_fault_07_401_in_between_for_ever_and_no_tokens(store: Store, tmp_path: Path) -> None:
    _survives(store, [answers(401)], ["/comments/"])
    with pytest.raises(UserError, match="refuses these credentials"):
        _crawl(Store(tmp_path / "b.db", write=True), FakeReddit(THREADS, faults=Faults({"/r/": [answers(401)] * 99})))
    down = FakeReddit(THREADS, faults=Faults({"/api/v1/access_token": [answers(503)] * 999}))
    with pytest.raises(RedditDown, match="status 503"):
        _crawl(Store(tmp_path / "c.db", write=True), down, patience_s=60)


def test_fault_08_a_subreddit_or_a_thread_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    for status in (302, 403, 404, 451):
        shut = Faults({"/r/": [answers(status, location="/search")]})
        with pytest.raises(UserError, match="no readable"):
            _crawl(Store(tmp_path / f"{status}.db", write=True), FakeReddit(THREADS, faults=shut))
    gone = {f"/comments/{THREADS[1].post.id}": [answers(404)], f"/r/{SUBREDDIT}/comments": [edits(_empty)]}
    _crawl(store, FakeReddit(THREADS, faults=Faults(gone)))
    _is_whole(store, replies=REPLIES - len(THREADS[1].replies))


def _empty(page: Any) -> Any:
    return {"kind": "Listing", "data": {"after": None, "children": []}}


def test_fault_09_null_authors_unknown_kinds_missing_fields(store: Store) -> None:
    def spoil(page: Any) -> Any:
        first, second, third, *_ = page["data"]["children"]
        first["data"]["author"] = None
        second["kind"] = "t9"
        del third["data"]["id"]
        page["data"]["children"].append("nonsense")
        return page

    _survives(store, [edits(spoil)], [f"/r/{SUBREDDIT}/new"])
    assert len(store.rows("SELECT reason FROM reject")) == 3


@pytest.mark.parametrize(
    "stub", [{}, {"data": None}, {"data": {}}, {"data": {"children": None}}, {"data": {"children": ["a/../b"]}}]
)
def test_fault_09_a_stub_that_names_nothing(store: Store, stub: dict[str, Any]) -> None:
    """In a tree, where "more" stands for the replies that are not shown: a broken one is on record."""

    def spoil(tree: Any) -> Any:
        tree[1]["data"]["children"] += [{"kind": "more"} | stub, None]
        return tree

    _survives(store, [edits(spoil)], ["/comments/"])
    assert len(store.rows("SELECT reason FROM reject")) == 2


def test_fault_10_info_leaves_out_and_reorders(store: Store) -> None:
    faults = Faults({"/api/info": [_info_edit(lambda children: children[::-1][1:])], f"/r/{SUBREDDIT}/comments": [edits(_empty)]})
    _crawl(store, FakeReddit(THREADS, faults=faults))
    assert faults.left == 0
    _is_whole(store, replies=REPLIES - 1)
    assert len(store.rows("SELECT item_id FROM observation WHERE missing")) == 1


def _post(number: int) -> Thread:
    first = THREADS[0]
    post = replace(first.post, id=f"n{number}", created_utc=float(number))
    assert first.post_observation is not None
    return Thread(post=post, replies=(), observations={}, post_observation=replace(first.post_observation, item_id=post.id))


def test_fault_11_the_overlap_is_lost(store: Store) -> None:
    threads = [_post(number) for number in range(1300)]

    async def poll_only(fake: FakeReddit) -> None:
        clock = FastClock(start=EPOCH, speed=1000)
        async with fake.serve() as url, connect(clock, **fake_login(url)) as client:
            await crawl_once(Crawler(client=client, store=store, subreddit=SUBREDDIT, clock=clock), limit=0)

    asyncio.run(poll_only(FakeReddit(threads[:50])))
    asyncio.run(poll_only(FakeReddit(threads[30:])))
    assert store.rows("SELECT listing, after_utc, before_utc FROM gap") == [(f"{SUBREDDIT}/new", 49.0, 300.0)]
    _is_whole(store, posts=1050, replies=0)


def test_fault_12_an_after_that_repeats(store: Store) -> None:
    def stuck(page: Any) -> Any:
        page["data"]["after"] = f"t3_{THREADS[-1].post.id}"  # the newest: behind it the same items come again
        return page

    for_ever = Faults({f"/r/{SUBREDDIT}/new": [edits(stuck)] * 50})
    _crawl(store, FakeReddit(THREADS, faults=for_ever))
    assert for_ever.left == 48  # the page, and the one that came again
    _is_whole(store)
    assert store.rows("SELECT * FROM gap") == []


def test_fault_13_scores_that_are_hidden_negative_or_null(store: Store) -> None:
    def odd(page: Any) -> Any:
        changes = ({"score_hidden": True, "score": 1}, {"score": -9}, {"score": None})
        for child, change in zip(page[1]["data"]["children"], changes, strict=False):
            child["data"] |= change
        return page

    post = next(thread.post.id for thread in THREADS if len(thread.replies) > 3)
    faults = {f"/comments/{post}": [edits(odd)], f"/r/{SUBREDDIT}/comments": [edits(_empty)]}
    _crawl(store, FakeReddit(THREADS, faults=Faults(faults)))
    _is_whole(store)
    (thread,) = (thread for thread in store.threads() if thread.post.id == post)
    assert len(thread.observations) == len(thread.replies) - 2  # the hidden and the null one say nothing
    assert min(reading.score or 0 for reading in thread.observations.values()) <= -9


def test_fault_14_deleted_edited_and_restored_between_two_reads(store: Store) -> None:
    fake = FakeReddit(THREADS)
    target = THREADS[0].replies[0]

    def body() -> str:
        return store.rows("SELECT body FROM reply WHERE id = ?", (target.id,))[0][0]

    bodies = []
    for days, deleted in ((90, set()), (91, {target.id}), (92, set())):
        fake.deleted = deleted
        with store.transaction():
            store.set_cursor(f"thread/{THREADS[0].post.id}", "changed")
        _crawl(store, fake, FastClock(start=EPOCH + days * 86400, speed=1000))
        bodies.append(body())
    assert bodies == [target.body, "[deleted]", target.body]
    _is_whole(store)


def test_fault_15_a_failure_in_the_middle_of_a_commit(store: Store) -> None:
    _crawl(store, FakeReddit(THREADS[:2]))
    before = store.digest()
    for error in (MemoryError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), store.transaction():
            store.add([Post(id="half", subreddit="s", title="half")])
            raise error
    assert store.digest() == before  # kill -9 and SIGTERM: test_kill.py, test_passes.py


def test_fault_16_a_full_disk_a_read_only_file_two_collectors(store: Store, tmp_path: Path) -> None:
    _crawl(store, FakeReddit(THREADS[:2]))
    before = store.digest()
    store.rows("PRAGMA max_page_count = 1")  # as small as it is now
    with pytest.raises(UserError, match=r"database or disk is full.*make room"):
        _crawl(store, FakeReddit(THREADS))
    store.rows("PRAGMA max_page_count = 1000000")
    assert store.rows("PRAGMA integrity_check") == [("ok",)]
    assert set(store.rows("SELECT id FROM post")) >= {(thread.post.id,) for thread in THREADS[:2]}
    assert before
    store.rows("PRAGMA query_only = 1")
    with pytest.raises(UserError, match=r"can't write to .*readonly"):
        _crawl(store, FakeReddit(THREADS))
    store.rows("PRAGMA query_only = 0")
    with pytest.raises(UserError, match="another process is writing"):
        Store(store.path, write=True)
    _crawl(store, FakeReddit(THREADS))
    _is_whole(store)


def test_fault_17_the_clock_jumps(store: Store) -> None:
    class Jumping(FastClock):
        jumps = 0

        def time(self) -> float:
            self.jumps += 1
            return super().time() + (86400 if self.jumps % 2 else -86400)

    clock = Jumping(start=EPOCH + 90 * 86400, speed=1000)
    _crawl(store, FakeReddit(THREADS), clock)
    assert clock.jumps > 3
    _is_whole(store)


def _dump(lines: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _comment(number: int, **fields: Any) -> dict[str, Any]:
    base = {"id": f"c{number}", "subreddit": NAME, "body": "word " * 50, "author": "a", "created_utc": 1, "score": number}
    return {**base, "link_id": "t3_p1", "parent_id": "t3_p1", "retrieved_on": 5, **fields}


def test_fault_18_a_zst_that_is_cut_off_flipped_or_wants_more_memory_than_there_is(store: Store, tmp_path: Path) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    whole = compressor.compress(_dump(map(_comment, range(2000))))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for name, content in (("cut", whole[: len(whole) // 2]), ("flipped", bytes(flipped))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Damaged, match="cut off or damaged"):
            import_dump(store, tmp_path / name, NAME)
    (tmp_path / "RC.xz").write_bytes(whole + whole)  # two frames, another format's name
    assert import_dump(store, tmp_path / "RC.xz", NAME).kept == 4000
    _is_whole(store, posts=0, replies=2000)
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=31)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with (tmp_path / "large").open("wb") as file, compressor.stream_writer(file) as out:
        out.write(_dump(map(_comment, range(3000))))
    code = f"""
import resource
from rfr.collect.files.dumps import import_dump
from rfr.store.store import Store
resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))
import_dump(Store("{tmp_path}/m.db", write=True), "{tmp_path}/large", "{NAME}")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "UserError" in done.stderr.splitlines()[-1]
    assert "needs 2 GiB" in done.stderr


def test_fault_19_lines_that_are_none(store: Store, tmp_path: Path) -> None:
    name = NAME.encode()
    bad = [b'{"subreddit": "' + name, b"\xff\xfe" + name, b'{"x": "\\ud800", "subreddit": "' + name + b'"}', b"\x00" + name]
    bad.append(b'{"subreddit": "' + name + b'", "body": "' + b"x" * (100 << 20) + b'"}')
    good = [json.dumps(_comment(number)).encode() for number in range(3)]
    (tmp_path / "RC").write_bytes(b"\n".join([good[0], *bad, good[1], good[2]]))  # no newline at the end
    state = import_dump(store, tmp_path / "RC", NAME)
    assert (state.read, state.kept, state.rejected, state.filtered) == (8, 3, 5, 0)
    assert max(len(line) for (line,) in store.rows("SELECT line FROM reject")) < 2000


def test_fault_20_drifting_types_orphans_and_the_same_item_from_two_sources(tmp_path: Path) -> None:
    post = {"id": "p1", "subreddit": NAME, "title": "[WP] One.", "created_utc": "1", "score": 3, "retrieved_on": 5}
    drifted = _comment(1, created_utc="2", score=None, retrieved_on=None, retrieved_utc=7)
    (tmp_path / "RS").write_bytes(_dump([post]))
    (tmp_path / "RC").write_bytes(_dump([drifted, _comment(2, parent_id="t3_unknown")]))
    api = Reply(id="c1", post_id="p1", body="from the API", author="a", created_utc=2.0, seen_at=9.0)
    digests = set()
    for number, order in enumerate((("RS", "RC", ""), ("", "RC", "RS"), ("RC", "RS", ""))):
        with Store(tmp_path / f"{number}.db", write=True) as store:
            for name in order:
                import_dump(store, tmp_path / name, NAME) if name else store.add([api])
            digests.add(store.digest())
            (thread,) = store.threads()
            assert [reply.body for reply in thread.replies] == ["from the API"]
            assert store.counts()["reply"] == 2  # the orphan waits for its post
    assert len(digests) == 1
    assert isinstance(thread, Thread)

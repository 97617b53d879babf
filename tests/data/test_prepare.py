"""Preparation as a whole: policies, packings, the cache, kills."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rfr.data.batches import WeightedRows
from rfr.data.clean.cleaner import Clean
from rfr.data.ledger import shift_rows
from rfr.data.loader import BUCKET_STEPS, Batching, TrainBatches, ValidationBatches
from rfr.data.pack.long_stories import STORY_TOO_LONG, Drop, Segment, Strict
from rfr.data.pack.packing import Off
from rfr.data.prepare import Prepared, Preprocess
from rfr.data.split import Split
from rfr.errors import UserError
from rfr.records import IGNORE, Post, Reply
from rfr.reward.thread import ThreadRank
from rfr.store.store import Store
from rfr.utils.cache import build_once, is_sealed
from tests.conftest import ROOT

HERE = Preprocess(
    clean=Clean(min_words=20), split=Split(validation_share=0.2, salt="t"), fit=Segment(context_tokens=16), block_size=128
)


def _prepare(preprocess: Preprocess, store: Path, tokenizer_of: Prepared, root: Path) -> Prepared:
    with Store(store) as opened:
        return preprocess.prepare(opened, lambda _: tokenizer_of.tokenizer, repr(preprocess), root)


# --- packing=off


@pytest.fixture(scope="module")
def unpacked(demo_store: Path, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return _prepare(replace(HERE, packing=Off()), demo_store, prepared, tmp_path_factory.mktemp("off"))


def test_without_packing_a_row_is_a_document(unpacked: Prepared, prepared: Prepared) -> None:
    rows = unpacked.train.rows
    assert len(rows) == len(rows.pieces.story) > len(prepared.train.rows)
    assert (np.diff(rows.row_lengths) <= 0).all()
    assert (np.bincount(rows.pieces.story) <= np.bincount(prepared.train.rows.pieces.story)).all()
    for indices in (np.array([0]), np.arange(len(rows) - 5, len(rows)), np.array([3, 40])):
        taken, longest = rows.take(indices), rows.row_lengths[indices].max()
        assert longest <= taken.input_ids.shape[1] <= min(128, longest + 7)
        assert (taken.documents.max(axis=1) == 1).all()
        assert ((taken.documents == 1).sum(axis=1) == rows.row_lengths[indices]).all()
    whole = rows.take(np.arange(len(rows)))
    assert (np.bincount(whole.stories[whole.labels != IGNORE]) == prepared.train.target_tokens).all()


def _batches(split_of: Prepared, *, micro_batch: int, accumulate: int, rank: int, ranks: int) -> TrainBatches:
    return TrainBatches(
        WeightedRows(split_of.train.rows),
        Batching(steps=80, seed=3, micro_batch=micro_batch, accumulate=accumulate),
        rank=rank,
        ranks=ranks,
    )


def test_batches_without_packing_hold_rows_of_about_one_length(unpacked: Prepared) -> None:
    batches, rows = _batches(unpacked, micro_batch=4, accumulate=2, rank=0, ranks=1), unpacked.train.rows
    shown = [batches[i] for i in range(2 * BUCKET_STEPS * (len(rows) // (8 * BUCKET_STEPS)))]
    padding = sum(int((batch.documents_BT == 0).sum()) for batch in shown) / sum(batch.documents_BT.numel() for batch in shown)
    rng = np.random.default_rng(0)
    mixed = [rows.take(rng.choice(len(rows), 4, replace=False)).documents == 0 for _ in shown]
    assert padding < 0.5 * sum(part.sum() for part in mixed) / sum(part.size for part in mixed)
    starts = [batch.input_ids_BT[:, :48] for batch in shown]
    assert len(set(map(len, starts))) == 1
    widths = [batch.input_ids_BT.shape[1] for batch in shown]
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)


def test_a_step_without_packing_is_the_same_for_every_layout(unpacked: Prepared) -> None:
    whole = _batches(unpacked, micro_batch=8, accumulate=1, rank=0, ranks=1)
    parts = [_batches(unpacked, micro_batch=2, accumulate=2, rank=rank, ranks=2) for rank in range(2)]
    for step in (0, 1, BUCKET_STEPS, 79, 5):  # in any order: a resumed run asks for the middle first
        expected = whole[step]
        pieces = [parts[rank][2 * step + part] for part in range(2) for rank in range(2)]
        labels = np.concatenate([np.pad(p.labels_BT, ((0, 0), (0, 128)), constant_values=IGNORE)[:, :128] for p in pieces])
        width = expected.labels_BT.shape[1]
        assert np.array_equal(labels[:, :width], expected.labels_BT)
        assert (labels[:, width:] == IGNORE).all()
        assert {p.target_tokens for p in pieces} == {expected.target_tokens}


def test_an_epoch_without_packing_shows_every_row_once(unpacked: Prepared) -> None:
    rows = unpacked.train.rows
    per_step = len(rows) // BUCKET_STEPS
    batches = _batches(unpacked, micro_batch=1, accumulate=per_step, rank=0, ranks=1)
    seen = [int(batches[i].target_tokens) for i in range(0, BUCKET_STEPS * per_step, per_step)]
    assert abs(sum(seen) - int(rows.row_targets.sum())) <= (len(rows) - per_step * BUCKET_STEPS) * 129
    validation = unpacked.validation.rows
    loader = ValidationBatches(WeightedRows(validation), micro_batch=4, rank=0, ranks=1)
    targets = sum(int((loader[i].labels_BT != IGNORE).sum()) for i in range(len(loader)))
    assert targets == unpacked.ledger["validation"]["target_tokens"]


# --- fit policies on a corpus


def test_drop_says_what_it_did_to_length_and_karma(demo_store: Path, prepared: Prepared, tmp_path: Path) -> None:
    done = _prepare(replace(HERE, fit=Drop()), demo_store, prepared, tmp_path)
    train = done.ledger["train"]
    before, after, lost = train["would_have_been_kept"], train["kept"], train["left_out"][STORY_TOO_LONG]
    assert before["stories"] == after["stories"] + lost["stories"] == prepared.ledger["train"]["kept"]["stories"]
    assert before["tokens_per_story"] == prepared.ledger["train"]["kept"]["tokens_per_story"]
    assert before["karma"] == prepared.ledger["train"]["kept"]["karma"]
    assert before["tokens_per_story"]["mean"] > after["tokens_per_story"]["mean"]
    rows = shift_rows(done.ledger)
    assert [(row["split"], row["of"]) for row in rows[::2]] == [
        (split, measure) for split in ("train", "validation") for measure in ("tokens per story", "karma")
    ]
    assert rows[0]["median"] == before["tokens_per_story"]["median"]
    assert rows[3]["mean"] == after["karma"]["mean"]
    assert rows[1]["stories"] == f"{after['stories'] / before['stories']:.1%}"
    assert shift_rows(prepared.ledger) == []
    with pytest.raises(UserError, match="raise it, or choose preprocess=segment"):
        _prepare(replace(HERE, fit=Strict()), demo_store, prepared, tmp_path)


# --- stories without karma


def test_stories_without_karma_can_be_cloned_only(prepared: Prepared, tmp_path: Path) -> None:
    story = "The old man had not been there for as long as she said, and he did not like to talk of it with number {}. "
    with Store(tmp_path / "s.db", write=True) as store:
        for thread in range(30):
            store.add([Post(id=f"p{thread}", subreddit="s", title=f"[WP] Door {thread} opens.")])
            store.add([Reply(id=f"r{thread}", post_id=f"p{thread}", body=story.format(thread) * 3)])
    with pytest.raises(UserError, match=r"can be cloned: preprocess.scored_only=false objective=bc"):
        _prepare(HERE, tmp_path / "s.db", prepared, tmp_path)
    split = Split(validation_share=0.3, salt="t")
    done = _prepare(replace(HERE, scored_only=False, split=split), tmp_path / "s.db", prepared, tmp_path)
    assert {story.score for story in done.train.stories} == {None}
    assert done.ledger["train"]["kept"]["karma"] is None
    with pytest.raises(UserError, match="stories without karma"):
        ThreadRank()(done.train.threads[0])


# --- the cache


def test_a_damaged_cache_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builds = 0

    def build(folder: Path) -> None:
        nonlocal builds
        builds += 1
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"whole")

    folder = build_once(tmp_path, "k", build)
    damages = [
        lambda: (folder / "deep" / "a").write_bytes(b"whoke"), lambda: (folder / "deep" / "a").write_bytes(b"who"),
        lambda: (folder / "deep" / "a").unlink(), lambda: (folder / "more").write_bytes(b""),
        lambda: (folder / "seal.json").unlink(),
        lambda: (folder / "seal.json").write_text("{"), lambda: shutil.rmtree(folder / "deep"),
    ]  # fmt: skip
    for number, damage in enumerate(damages):
        assert build_once(tmp_path, "k", build) == folder
        assert builds == number + 1
        damage()
        build_once(tmp_path, "k", build)
        assert builds == number + 2
        assert "is damaged: made again" in capsys.readouterr().out
        assert (folder / "deep" / "a").read_bytes() == b"whole"


CHILD = """
import sys
from pathlib import Path
import rfr.data.filtering
from rfr.utils.parallel import FEWEST_ITEMS
from rfr.data.tokenise import train_bpe
from rfr.store.store import Store
from tests.data.test_prepare import HERE

if __name__ == "__main__":
    rfr.data.filtering.LOT_CHARACTERS = 20_000  # so that this small store is filtered in several processes
    with Store(sys.argv[1]) as store:
        print("go", flush=True)
        make = lambda pairs: train_bpe((pair.response for pair in pairs), 600)
        print(HERE.prepare(store, make, "killed", Path(sys.argv[2])).ledger["train"]["rows"], flush=True)
"""


def _start(store: Path, root: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(store), str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    return child


@pytest.mark.slow
def test_twenty_kills_leave_no_half_written_cache(demo_store: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    child = _start(demo_store, tmp_path / "whole")
    started = time.monotonic()
    assert child.stdout is not None
    rows = child.stdout.readline()
    seconds = time.monotonic() - started
    child.communicate()
    (whole,) = (path for path in (tmp_path / "whole").iterdir() if path.is_dir())
    rng, states = random.Random(0), []
    for number in range(20):
        child = _start(demo_store, tmp_path / "killed")
        time.sleep(seconds * (number + rng.random()) / 20)
        child.kill()
        child.communicate()
        folders = [path for path in (tmp_path / "killed").iterdir() if path.is_dir()] if (tmp_path / "killed").exists() else []
        assert all(is_sealed(path) for path in folders if path.suffix != ".partial")
        states.append("whole" if any(path.suffix != ".partial" for path in folders) else "partial" if folders else "nothing")
        if states[-1] == "whole":
            shutil.rmtree(tmp_path / "killed" / whole.name)
    child = _start(demo_store, tmp_path / "killed")
    assert child.communicate()[0] == rows
    again = tmp_path / "killed" / whole.name
    assert json.loads((again / "seal.json").read_text()) == json.loads((whole / "seal.json").read_text())
    assert states.count("partial") >= 5
    print(f"20 kills within {seconds:.1f} s of preparation: {states.count('partial')} left a partial cache, ", end="")
    print(f"{states.count('whole')} came after its end; {time.monotonic() - began:.0f} s in all")

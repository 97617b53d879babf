"""Which replies are compared, and the rows they are compared in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfr.data.batches import PairRows, truncate_to_block
from rfr.data.loader import Batching, TrainBatches, ValidationBatches
from rfr.data.preference_pairs import Pairing, PreferencePairs
from rfr.data.prepare import Prepared
from rfr.errors import UserError
from rfr.records import IGNORE, PreferenceBatch


@given(
    st.lists(st.lists(st.tuples(st.integers(-2, 5), st.integers(1, 40)), min_size=1, max_size=9), min_size=1, max_size=5),
    st.integers(2, 10), st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([None, 1.0, 1.5]),
)  # fmt: skip
def test_pairs_are_exactly_those_of_a_group(
    replies: list[list[tuple[int, int]]], group: int, margin: float, length_ratio: float | None
) -> None:
    threads = np.repeat(np.arange(len(replies)), [len(thread) for thread in replies])
    rewards, tokens = (np.array([reply[i] for thread in replies for reply in thread], float) for i in (0, 1))
    try:
        pairs = Pairing(margin=margin, group=group, length_ratio=length_ratio)(rewards, threads, tokens)
    except UserError:
        pairs = PreferencePairs(**dict.fromkeys(("story", "group", "chosen", "rejected"), np.zeros(0, int)))
    assert len(set(pairs.story)) == len(pairs.story), "no story twice"
    assert set(pairs.chosen) | set(pairs.rejected) == set(range(len(pairs.story))), "none that is not compared"
    assert max(np.bincount(pairs.group), default=0) <= group
    assert (np.diff(pairs.group[pairs.chosen]) >= 0).all()
    got = {(pairs.story[c], pairs.story[r]) for c, r in zip(pairs.chosen, pairs.rejected, strict=True)}
    groups = dict(zip(pairs.story, pairs.group, strict=True))
    whole = group >= max(map(len, replies))  # a thread is one group
    for one in range(len(rewards)):
        for other in range(len(rewards)):
            like = length_ratio is None or max(tokens[one], tokens[other]) <= length_ratio * min(tokens[one], tokens[other])
            wanted = threads[one] == threads[other] and rewards[one] - rewards[other] > margin and like
            together = groups.get(one, -1) == groups.get(other, -2)
            assert ((one, other) in got) == (wanted and together)
            assert not (whole and wanted) or together


def test_stories_that_cannot_be_compared_are_refused() -> None:
    rewards, threads, tokens = np.array([1.0, 2, 3, 5]), np.array([0, 0, 1, 1]), np.array([10, 20, 10, 10])
    assert len(Pairing()(rewards, threads, tokens).chosen) == 2
    assert len(Pairing(length_ratio=1.1)(rewards, threads, tokens).chosen) == 1
    for pairing, words in ((Pairing(margin=2), "margin=2"), (Pairing(margin=1, length_ratio=1.0), None)):
        if words is None:
            assert len(pairing(rewards, threads, tokens).chosen) == 1
        else:
            with pytest.raises(UserError, match=words):
                pairing(rewards, threads, tokens)
    with pytest.raises(UserError, match="objective=rwr"):
        Pairing()(rewards, np.arange(4), tokens)
    with pytest.raises(UserError, match="1 rewards are NaN or infinite"):
        Pairing()(np.array([1.0, np.nan, 3, 5]), threads, tokens)
    for wrong in ({"margin": -1.0}, {"margin": float("nan")}, {"group": 1}, {"length_ratio": 0.9}):
        with pytest.raises(UserError, match=f"objective.pairing.{next(iter(wrong))}"):
            Pairing(**wrong)


@pytest.fixture(scope="module")
def rows(prepared: Prepared) -> PairRows:
    split = prepared.train
    rewards = np.array([float(pair.score or 0) for pair in split.stories])
    comparisons = Pairing(group=3)(rewards, split.stories.column("thread_id"), split.target_tokens)
    return PairRows(split.rows, comparisons, np.arange(len(comparisons.story), dtype=np.float64))


def test_a_batch_holds_the_stories_it_compares(prepared: Prepared, rows: PairRows) -> None:
    split, indices = prepared.train, np.array([0, 3, len(rows) - 1])
    batch = rows.batch(indices, np.arange(len(rows)))
    assert batch.pairs == len(rows.comparisons.chosen) > len(rows)
    entries = np.concatenate([np.flatnonzero(rows.comparisons.group == index) for index in indices])
    assert batch.reference_S.tolist() == entries.tolist()
    assert len(batch.ends_S) == len(entries) == int(batch.documents_BT.max())
    whole, documents = 0, batch.documents_BT.flatten()
    for number, entry in enumerate(entries, start=1):
        story = rows.comparisons.story[entry]
        prompt, begins, ends = split.rows.stories[story]
        expected = [*split.rows.tokens[prompt:ends], split.rows.eos][: split.rows.block + 1]
        here = documents == number
        assert batch.input_ids_BT.flatten()[here].tolist() == expected[:-1]
        labels = batch.labels_BT.flatten()[here]
        assert labels[labels != IGNORE].tolist() == expected[begins - prompt :]
        assert batch.positions_BT.flatten()[here].tolist() == list(range(len(expected) - 1))
        assert batch.ends_S[number - 1] == np.flatnonzero(here)[-1]
        whole += expected[-1] == split.rows.eos
    assert 0 < whole < len(entries), "some stories are longer than the block"
    scores = np.array([split.stories[int(rows.comparisons.story[entry])].score for entry in entries])
    assert len(batch.chosen_P) == sum(np.diff(np.searchsorted(rows.comparisons.group[rows.comparisons.chosen], [i, i + 1]))[0]
                                      for i in indices)  # fmt: skip
    assert (scores[batch.chosen_P] > scores[batch.rejected_P]).all()
    threads = np.array([split.stories[int(rows.comparisons.story[entry])].thread_id for entry in entries])
    assert (threads[batch.chosen_P] == threads[batch.rejected_P]).all()


def test_a_rank_without_rows_learns_nothing(rows: PairRows) -> None:
    batch = rows.batch(np.array([2, -1]), np.arange(3))
    alone = rows.batch(np.array([2]), np.arange(3))
    assert batch.chosen_P.tolist() == alone.chosen_P.tolist()
    assert (batch.labels_BT[1] == IGNORE).all()
    assert batch.pairs == alone.pairs > len(alone.chosen_P)
    empty = rows.batch(np.array([-1]), np.arange(3))
    assert len(empty.chosen_P) == 0


def test_pairs_of_a_step_are_the_same_for_every_layout(rows: PairRows) -> None:
    def pairs(batch: object) -> list[tuple[float, float]]:
        assert isinstance(batch, PreferenceBatch)  # the reference numbers the places
        both = batch.reference_S[batch.chosen_P].tolist(), batch.reference_S[batch.rejected_P].tolist()
        return list(zip(*both, strict=True))

    whole = TrainBatches(rows, Batching(micro_batch=8, accumulate=1, steps=20, seed=1), rank=0, ranks=1)
    halves = Batching(micro_batch=2, accumulate=2, steps=20, seed=1)
    parts = [TrainBatches(rows, halves, rank=rank, ranks=2) for rank in range(2)]
    for step in (0, 19):
        pieces = [parts[rank][2 * step + part] for part in range(2) for rank in range(2)]
        assert [pair for piece in pieces for pair in pairs(piece)] == pairs(whole[step])
        assert {piece.pairs for piece in pieces} == {len(pairs(whole[step]))}  # type: ignore[union-attr]
    loaders = [ValidationBatches(rows, micro_batch=4, rank=rank, ranks=3) for rank in range(3)]
    seen = [pair for loader in loaders for index in range(len(loader)) for pair in pairs(loader[index])]
    assert len(seen) == len(set(seen)) == len(rows.comparisons.chosen)


def test_a_beginning_fills_the_block_and_no_more(prepared: Prepared) -> None:
    rows = prepared.train.rows
    longest = np.argsort(-rows.story_tokens)[:3]
    begun = truncate_to_block(rows, longest, np.arange(3))
    assert begun.row_lengths.tolist() == [rows.block] * 3
    assert (begun.take(np.arange(3)).labels[:, -1] != IGNORE).all()
    prompts, length = rows.stories[:, 1] - rows.stories[:, 0], rows.story_tokens
    for room in (-1, 0, 1):  # tokens that are left of the block
        story = longest[-1]
        tight = truncate_to_block(replace(rows, block=int(prompts[story] + length[story] + room)), longest[-1:], np.arange(1))
        assert tight.row_lengths.tolist() == [prompts[story] + length[story] + 2 * min(room, 0)]
        assert (tight.take(np.arange(1)).labels == rows.eos).sum() == (room >= 0), "the end is learnt where it is seen"

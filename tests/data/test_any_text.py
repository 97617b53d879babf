"""The whole road, from the store to the rows, for whatever strangers write: hypothesis thinks of it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from rfr.data.clean.cleaner import Clean
from rfr.data.pack.long_stories import Segment
from rfr.data.pack.packing import BestFit, Off, Packing
from rfr.data.prepare import Prepared, PreparedSplit, Preprocess
from rfr.data.split import Split
from rfr.data.tokenise import prompt_tokens, train_bpe
from rfr.records import IGNORE, Observation, Post, Reply, Story
from rfr.store.store import Store

BLOCK, CONTEXT = 64, 8
SPEECH = "the fox and a hen of old went to sea in an egg that was not theirs , so it sank . They swam ! Why ?"
WORDS = SPEECH.split()
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=400),
        st.text(alphabet="🦊👩‍🚀é中\u200b\x00 .", max_size=300),
        st.text(alphabet="ab", min_size=200, max_size=900),  # no spaces
        st.text(alphabet="\n", min_size=1, max_size=300),
        st.lists(st.sampled_from([f"{word} " for word in WORDS]), min_size=30, max_size=300).map("".join),
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_bpe([" ".join(WORDS) * 20], 300)


def _as_it_is(story: Story) -> Story:
    return story


def _prepare(texts: list[str], tokenizer: PreTrainedTokenizerFast, clean: Callable, packing: Packing) -> Prepared:
    """These stories, and thirty plain ones, so that no split is empty; every second text is a second reply to its prompt."""
    rng = random.Random(0)
    plain = [" ".join(rng.choices(WORDS, k=rng.randint(25, 150))) for _ in range(30)]
    preprocess = Preprocess(
        clean=clean, split=Split(validation_share=0.3, salt="t"), fit=Segment(context_tokens=CONTEXT), block_size=BLOCK,
        packing=packing,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.db"
        with Store(path, write=True) as store, store.transaction():
            for number, text in enumerate([*plain, *texts]):
                store.add([Post(id=f"p{number // 2}", subreddit="s", title=f"[WP] A fox, number {number // 2}.")])
                store.add([Reply(id=f"r{number}", post_id=f"p{number // 2}", body=text, author="a")])
                store.add([Observation(kind="reply", item_id=f"r{number}", seen_at=9.0, source="t", score=number)])
        with Store(path) as store:
            return preprocess.prepare(store, lambda _: tokenizer, "any", Path(folder) / "cache")


def _check(split: PreparedSplit, tokenizer: PreTrainedTokenizerFast) -> None:
    """Whole stories, each behind its own prompt, each token a target once, one end-of-text each; nothing crosses a border."""
    packed = split.rows
    rows = packed.take(np.arange(len(packed)))
    by_story: dict[int, list[tuple[int, list[int]]]] = {}
    for row in range(len(packed)):
        for document in range(1, rows.documents[row].max() + 1):
            mine = np.flatnonzero(rows.documents[row] == document)
            ids, labels, number = rows.input_ids[row][mine], rows.labels[row][mine], int(rows.stories[row][mine[0]])
            prompt = prompt_tokens(tokenizer, split.stories[number].prompt)
            assert ids[: len(prompt)].tolist() == prompt
            assert (rows.positions[row][mine] == np.arange(len(mine))).all()
            targets = labels[labels != IGNORE]
            assert (labels[-len(targets) :] == targets).all(), "targets stand together at the end"
            assert (ids[1:][labels[:-1] != IGNORE] == targets[:-1]).all()
            assert len(ids) - len(prompt) + 1 - len(targets) <= CONTEXT
            by_story.setdefault(number, []).append((len(by_story.get(number, [])), targets.tolist()))
    assert len(by_story) == len(split.stories)
    starts = {number: sorted(packed.pieces.start[packed.pieces.story == number]) for number in by_story}
    for number, story in enumerate(split.stories):
        pieces = sorted(by_story[number], key=lambda piece: _offset(piece, packed, number))
        joined = [token for _, targets in pieces for token in targets]
        assert joined.count(packed.eos) == 1
        assert joined[-1] == packed.eos
        assert tokenizer.decode(joined[:-1]) == story.response
        assert len(starts[number]) == len(pieces)


def _offset(piece: tuple[int, list[int]], packed: object, story: int) -> int:
    """Where a piece starts in its story: pieces were met in the order of their rows."""
    pieces = packed.pieces  # type: ignore[attr-defined]
    return int(pieces.start[np.flatnonzero(pieces.story == story)[piece[0]]])


@pytest.mark.parametrize("packing", [BestFit(), Off()], ids=["packed", "off"])
@pytest.mark.parametrize("clean", [_as_it_is, Clean(min_words=1)], ids=["as it is", "cleaned"])
def test_any_text_is_learnt_whole(tokenizer: PreTrainedTokenizerFast, clean: Callable, packing: Packing) -> None:
    seen = {"stories": 0, "cut": 0}

    @given(TEXTS)
    @settings(max_examples=25, deadline=None)
    def whole(texts: list[str]) -> None:
        prepared = _prepare(texts, tokenizer, clean, packing)
        for split in (prepared.train, prepared.validation):
            _check(split, tokenizer)
            seen["stories"] += len(split.stories)
            seen["cut"] += len(split.rows.pieces.story) - len(split.stories)
        came_in = sum(account["came_in"]["stories"] for account in prepared.ledger.values())
        assert came_in == 30 + len(texts)

    whole()
    assert seen["stories"] > 25 * 25
    assert seen["cut"] > 100


EXTREMES = ["x", "🦊" * 3000, "word " * 100_000, "\n" * 5000 + "x", "x" * 20_000, "\x00" * 999, "A. " * 9000, "\n" * 500]


def test_extreme_stories_are_learnt_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    prepared = _prepare(EXTREMES, tokenizer, _as_it_is, BestFit())
    for split in (prepared.train, prepared.validation):
        _check(split, tokenizer)
    kept = [story.response for split in (prepared.train, prepared.validation) for story in split.stories]
    assert max(len(tokenizer(text)["input_ids"]) for text in kept) >= 100_000
    assert {"x", "🦊" * 3000, "x" * 20_000, "\x00" * 999} <= set(kept)

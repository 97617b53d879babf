"""Near duplicates: found where they are, not where they aren't, and the right one stays."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rfr.data.clean.cleaner import Clean
from rfr.data.clean.near_duplicates import LEAST_IN_COMMON, repeated, signature
from rfr.data.filtering import DUPLICATE_REASONS
from rfr.data.pack.long_stories import Segment
from rfr.data.prepare import Prepared, Preprocess
from rfr.data.split import Split
from rfr.errors import UserError
from rfr.records import Observation, Post, Reply
from rfr.store.store import Store

_, REPEATS, REPEATS_VALIDATION, PROMPT_OF_VALIDATION = DUPLICATE_REASONS
POSTED = {"train": 0.0, "validation": 86400.0}  # the cutoff below lies between
WORDS = [f"{a}{b}" for a in ("the", "sea", "fox", "sly", "old", "her") for b in ("", "ly", "er", "ing", "s", "ness", "ish")]


def _story(seed: int, words: int = 300) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def _changed(words: list[str], share: float, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"other{rng.randrange(999)}" if rng.random() < share else word for word in words]


def _shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def test_signatures_estimate_what_texts_have_in_common() -> None:
    errors = []
    for seed in range(60):
        one = _story(seed)
        other = _changed(one, 0.03, seed)
        a, b = _shingles(one), _shingles(other)
        errors.append((signature(" ".join(one)) == signature(" ".join(other))).mean() - len(a & b) / len(a | b))
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.08


def test_copies_are_found_and_others_are_not() -> None:
    texts = [_story(seed) for seed in range(150)]
    copies = [_changed(text, 0.01, seed) for seed, text in enumerate(texts[:50])]
    signatures = np.stack([signature(" ".join(text)) for text in texts + copies])
    repeats = repeated(signatures, np.arange(200))
    assert (repeats[:150] == -1).all()
    assert (repeats[150:] == np.arange(50)).mean() >= 0.96
    assert 0.6 < LEAST_IN_COMMON < 0.8
    backwards = np.arange(200)[::-1]
    repeats = repeated(signatures, backwards)  # of places in that order
    assert (repeats[:150] == -1).all()
    assert (backwards[repeats[150:]] == np.arange(150, 200)[::-1]).mean() >= 0.96


@pytest.mark.parametrize("text", ["", " ", "one", "one two three", "\u00e9", "🦊 🦊"])
def test_short_texts_have_signatures_too(text: str) -> None:
    assert (signature(text) == signature(text)).all()
    assert signature(text).shape == (64,)


def _sentence(seed: int) -> str:
    return "She said that it was not the one he had been " + " ".join(_story(seed, 40))


def _prepare(folder: Path, replies: list[Reply], prepared: Prepared) -> dict:
    preprocess = Preprocess(
        clean=Clean(min_words=5),
        split=Split(validation_share=0.5, salt="", cutoff="1970-01-02"),
        fit=Segment(context_tokens=8),
        block_size=128,
    )
    with Store(folder / "s.db", write=True) as store:
        for split, posted in POSTED.items():
            store.add([Post(id=split, subreddit="s", title=f"[WP] {split} it is.", created_utc=posted)])
        store.add([Post(id="again", subreddit="s", title="Validation, it is!", created_utc=0.0)])
        store.add(replies)
        store.add([Observation(kind="reply", item_id=reply.id, seen_at=90000.0, source="t", score=3) for reply in replies])
        done = preprocess.prepare(store, lambda stories: prepared.tokenizer, "x", folder)
    return {
        name: ({story.reply_id for story in split.stories}, {r: g["stories"] for r, g in done.ledger[name]["left_out"].items()})
        for name, split in (("train", done.train), ("validation", done.validation))
    }


def test_the_earlier_story_stays_and_none_of_validation_is_trained_on(tmp_path: Path, prepared: Prepared) -> None:
    def reply(name: str, post: str, seed: int, at: float | None) -> Reply:
        return Reply(id=name, post_id=post, body=_sentence(seed), author=f"author of {name}", created_utc=at)

    replies = [
        reply("a", "train", 1, 5.0), reply("b", "train", 1, 3.0), reply("c", "train", 1, None),  # one thrice
        reply("d", "train", 2, 1.0), reply("e", "validation", 2, 8.0),  # one on both sides, first in training
        reply("f", "validation", 3, 1.0), reply("g", "validation", 3, 2.0),
        reply("h", "train", 4, 1.0), reply("i", "validation", 5, 1.0),
    ]  # fmt: skip
    (tmp_path / "first").mkdir()
    splits = _prepare(tmp_path / "first", replies, prepared)
    assert splits["train"] == ({"b", "h"}, {REPEATS: 2, REPEATS_VALIDATION: 1})
    assert splits["validation"] == ({"e", "f", "i"}, {REPEATS: 1})
    # A store that has grown decides the same about what it held before.
    (tmp_path / "grown").mkdir()
    more = [
        replace(replies[0], id="j", created_utc=9.0),
        reply("k", "train", 6, 0.5),
        replace(replies[8], id="l", created_utc=7.0),
    ]
    grown = _prepare(tmp_path / "grown", [*replies, *more], prepared)
    assert grown["train"] == ({"b", "h", "k"}, {REPEATS: 3, REPEATS_VALIDATION: 1})
    assert grown["validation"] == ({"e", "f", "i"}, {REPEATS: 2})


def test_a_split_without_times_or_stories(tmp_path: Path, prepared: Prepared) -> None:
    with pytest.raises(UserError, match="the validation split is empty"):
        _prepare(tmp_path, [Reply(id="a", post_id="train", body=_sentence(1))], prepared)


def test_a_prompt_on_both_sides_of_the_cutoff_is_not_trained_on(tmp_path: Path, prepared: Prepared) -> None:
    replies = [
        Reply(id=name, post_id=post, body=_sentence(seed))
        for seed, (name, post) in enumerate({"a": "train", "b": "validation", "c": "again"}.items())
    ]
    splits = _prepare(tmp_path, replies, prepared)
    assert splits["train"] == ({"a"}, {PROMPT_OF_VALIDATION: 1})
    assert splits["validation"] == ({"b"}, {})


def test_texts_without_words_are_not_all_alike() -> None:
    texts = ["🦊" * 30, "🐔" * 30, "\x00" * 9, "...", "🦊" * 30, ""]
    assert repeated(np.array([signature(text) for text in texts]), np.arange(len(texts))).tolist() == [-1, -1, -1, -1, 0, -1]

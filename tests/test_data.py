"""From a thread to packed rows: nothing is lost, nothing cut, nothing counted twice."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from rfr.data.clean import Clean, canonical_prompt, plain_text
from rfr.data.fit import PROMPT_TOO_LONG, STORY_TOO_LONG, Drop, Segment, Strict
from rfr.data.module import TrainBatches, ValidationBatches
from rfr.data.pack import best_fit, pack
from rfr.data.pairs import thread_pairs
from rfr.data.prepare import Prepared, Preprocess
from rfr.data.split import Split
from rfr.data.tokenise import Tokens, to_sequence, tokenise
from rfr.records import IGNORE, Observation, Pair, Post, Reply, Thread
from rfr.store import Store

EOS = 9


def _tokens(prompt: int, story: int, sentences: list[int], words: list[int] | None = None) -> Tokens:
    return Tokens(prompt=[1] * prompt, story=list(range(100, 100 + story)), sentence_ends=sentences, word_starts=words or [])


def _pair(**changes: object) -> Pair:
    return Pair(**{"thread_id": "t", "reply_id": "r", "prompt": "[WP] A.", "response": "word " * 30, "score": 1} | changes)  # type: ignore[arg-type]


# --- pairs and cleaning


def test_every_reply_becomes_a_pair_or_a_reason() -> None:
    post = Post(id="p", subreddit="s", title="[WP] A.", created_utc=100.0)
    replies = {
        "ok": Reply(id="ok", post_id="p", body="A story.", author="a", created_utc=160.0),
        "deleted": Reply(id="deleted", post_id="p", body="[deleted]"),
        "mod": Reply(id="mod", post_id="p", body="Rules", author="m", distinguished="moderator"),
        "bot": Reply(id="bot", post_id="p", body="Beep", author="SomeBot"),
        "unscored": Reply(id="unscored", post_id="p", body="A story.", author="a"),
    }
    readings = {i: Observation(item_id=i, seen_at=460.0, source="t", score=4) for i in replies if i != "unscored"}
    outcome = dict(
        zip(replies, thread_pairs(Thread(post=post, replies=tuple(replies.values()), observations=readings)), strict=True)
    )
    kept = outcome.pop("ok")
    assert isinstance(kept, Pair)
    assert (kept.score, kept.delay_s, kept.score_age_s, kept.post_score) == (4, 60.0, 300.0, None)
    assert outcome == {"deleted": "deleted or removed", "mod": "moderator", "bot": "bot", "unscored": "no score"}


@pytest.mark.parametrize(
    ("title", "prompt"),
    [
        ("[WP] You wake up.", "[WP] You wake up."),
        ("wp you are a 17yearold", "[WP] you are a 17yearold"),
        ("[EU]  Frodo\n keeps it", "[EU] Frodo keeps it"),
        ("No tag here", "[WP] No tag here"),
        ("[WP] Tom &amp; Jerry\u200b", "[WP] Tom & Jerry"),
    ],
)
def test_prompts_have_one_form(title: str, prompt: str) -> None:
    assert canonical_prompt(title) == prompt


def test_cleaning_keeps_paragraphs_and_drops_what_cannot_be_seen() -> None:
    assert plain_text("A  b\u200b\x1b[31m\n\n\n\nc &lt;d&gt;\r\n") == "A b[31m\n\nc <d>"
    assert Clean(min_words=20)(_pair(response="too few words")) == "too short"
    assert Clean(min_words=20)(_pair(prompt="[WP]  ")) == "no prompt"


def test_reposts_share_a_side_and_shares_hold() -> None:
    split = Split(validation_share=0.2, salt="x")
    assert split("[WP] You, wake UP!") == split("[wp] you wake up")
    sides = [split(f"prompt {i}") for i in range(4000)]
    assert 0.17 < sides.count("validation") / 4000 < 0.23
    with pytest.raises(ValueError, match="between 0 and 1"):
        Split(validation_share=1.0, salt="")


# --- fitting


def test_labels_are_the_next_tokens() -> None:
    sequence = to_sequence([1, 2, 3], [4, 5, EOS], 7)
    assert list(sequence.input_ids) == [1, 2, 3, 4, 5]
    assert list(sequence.labels) == [IGNORE, IGNORE, 4, 5, EOS]


def test_segments_train_every_token_once_and_cut_at_sentences() -> None:
    rng = random.Random(0)
    cut = 0
    for _ in range(300):
        story = rng.randint(1, 400)
        sentences = sorted(rng.sample(range(1, story), min(story - 1, story // 8))) if story > 8 else []
        tokens = _tokens(rng.randint(1, 40), story, sentences, list(range(1, story, 2)))
        fit = Segment(context_tokens=8)
        segments = fit(tokens, 64, EOS, 0)
        if isinstance(segments, str):
            assert segments == PROMPT_TOO_LONG
            continue
        targets = [label for segment in segments for label in segment.labels if label != IGNORE]
        assert targets == [*tokens.story, EOS]
        assert all(len(segment.input_ids) <= 64 for segment in segments)
        assert all(list(s.input_ids[: len(tokens.prompt)]) == tokens.prompt for s in segments)
        for before, after in pairwise(segments):
            start = next(label for label in after.labels if label != IGNORE) - 100
            context = list(after.input_ids)[len(tokens.prompt) : list(after.labels).index(100 + start) + 1]
            assert context == tokens.story[max(0, start - 8) : start]
            assert before.labels[-1] == tokens.story[start - 1]
        cut += sum(fit.splits.values())
        assert fit.splits["inside a word"] == 0
    assert cut > 500


def test_a_sentence_longer_than_the_block_is_split_at_a_word_and_counted() -> None:
    fit = Segment(context_tokens=8)
    fit(_tokens(10, 200, [], [50, 90, 130, 170]), 64, EOS, 0)
    assert fit.splits["at a word"] > 0
    fit(_tokens(10, 200, []), 64, EOS, 0)
    assert fit.splits["inside a word"] > 0


def test_drop_leaves_out_and_strict_refuses() -> None:
    assert Drop()(_tokens(10, 200, []), 64, EOS, 0) == STORY_TOO_LONG
    assert Drop()(_tokens(60, 2, []), 64, EOS, 0) == PROMPT_TOO_LONG
    exact = Drop()(_tokens(10, 54, []), 64, EOS, 0)
    assert isinstance(exact, list)
    assert [len(sequence.input_ids) for sequence in exact] == [64]
    with pytest.raises(ValueError, match="preprocess=segment"):
        Strict()(_tokens(10, 200, []), 64, EOS, 0)


# --- packing and batches


def test_packing_loses_nothing_and_fills_rows() -> None:
    rng = random.Random(1)
    lengths = [rng.randint(1, 64) for _ in range(500)]
    plan = best_fit(lengths, 64)
    assert sorted(i for row in plan for i in row) == list(range(500))
    assert all(sum(lengths[i] for i in row) <= 64 for row in plan)
    assert sum(lengths) / (64 * len(plan)) > 0.97
    sequences = [to_sequence([1], list(range(10, 10 + n)), i) for i, n in enumerate(lengths)]
    rows = pack(sequences, 64)
    for story in range(500):
        assert ((rows.stories == story) & (rows.labels != IGNORE)).sum() == lengths[story]
    starts = (rows.positions == 0) & (rows.documents > 0)
    assert starts.sum() == 500


def test_the_ledger_accounts_for_everything(prepared: Prepared) -> None:
    for split in (prepared.train, prepared.validation):
        assert split.rows.labels.shape[1] == 128
        assert (split.target_tokens > 0).all()
        eos = prepared.tokenizer.eos_token_id
        assert (np.asarray(split.rows.labels) == eos).sum() == len(split.pairs)
    train, validation = prepared.ledger["train"], prepared.ledger["validation"]
    assert train["left_out"]["moderator"] > 0
    assert train["replies"] == train["pairs"] + sum(train["left_out"].values())
    assert {p.thread_id for p in prepared.train.pairs}.isdisjoint({p.thread_id for p in prepared.validation.pairs})
    assert train["segments"] > train["pairs"]  # some stories are longer than the block
    assert validation["pairs"] > 0


def test_rows_decode_to_the_stories(prepared: Prepared) -> None:
    split, tokenizer = prepared.train, prepared.tokenizer
    labels, stories = np.asarray(split.rows.labels), np.asarray(split.rows.stories)
    whole = 0
    for story in range(60):
        rows_of = np.unique(np.nonzero((stories == story) & (labels != IGNORE))[0])
        if len(rows_of) == 1:
            row = rows_of[0]
            targets = labels[row][(stories[row] == story) & (labels[row] != IGNORE)]
            if targets[-1] == tokenizer.eos_token_id:
                whole += 1
                assert tokenizer.decode(targets[:-1]) == split.pairs[story].response
    assert whole > 10


def test_an_end_of_text_marker_in_a_story_is_text(prepared: Prepared) -> None:
    tokens = tokenise(prepared.tokenizer, "[WP] A <|endoftext|> b", "He typed <|endoftext|> and left. Then came back.")
    assert prepared.tokenizer.eos_token_id not in tokens.story + tokens.prompt
    assert len(tokens.sentence_ends) == 1


def test_real_stories_survive_gpt2s_vocabulary(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "gpt2_tokenizer")
    text = "“Run,” she said. I didn't… Then:\n\nnothing — at all! <|endoftext|>"
    tokens = tokenise(tokenizer, "[WP] A.", text)
    assert tokenizer.decode(tokens.story) == text
    assert tokenizer.eos_token_id not in tokens.story


def test_an_empty_split_is_refused(demo_store: Path, prepared: Prepared, tmp_path: Path) -> None:
    preprocess = Preprocess(clean=Clean(min_words=10**6), split=Split(validation_share=0.2, salt=""), fit=Drop(), block_size=128)
    with Store(demo_store) as store, pytest.raises(ValueError, match="train split is empty"):
        preprocess.prepare(store, lambda _: prepared.tokenizer, "empty", tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and not path.name.endswith(".partial")]


def _batches(prepared: Prepared, **layout: int) -> TrainBatches:
    weights = np.arange(1, len(prepared.train.pairs) + 1, dtype=np.float64)
    return TrainBatches(prepared.train.rows, weights, steps=50, seed=3, **layout)


def test_an_optimizer_batch_is_the_same_for_every_layout(prepared: Prepared) -> None:
    whole = _batches(prepared, micro_batch=8, accumulate=1, rank=0, ranks=1)
    parts = [_batches(prepared, micro_batch=2, accumulate=2, rank=rank, ranks=2) for rank in range(2)]
    assert len(whole) == 50
    for step in (0, 1, 49):
        expected = whole[step]
        pieces = [parts[rank][2 * step + part] for part in range(2) for rank in range(2)]
        assert np.array_equal(np.concatenate([p.input_ids_BT for p in pieces]), expected.input_ids_BT)
        assert {p.target_tokens for p in pieces} == {expected.target_tokens}
        assert expected.target_tokens == sum(int((p.labels_BT != IGNORE).sum()) for p in pieces)


def test_an_epoch_shows_every_row_once_and_shuffles_again(prepared: Prepared) -> None:
    count = len(prepared.train.rows.labels)
    batches = _batches(prepared, micro_batch=1, accumulate=2 * count // 50 + 1, rank=0, ranks=1)
    first = [batches[i].input_ids_BT.numpy().tobytes() for i in range(count)]
    second = [batches[i].input_ids_BT.numpy().tobytes() for i in range(count, 2 * count)]
    assert (
        sorted(first)
        == sorted(second)
        == sorted(row.astype(np.int64).tobytes() for row in np.asarray(prepared.train.rows.input_ids))
    )
    assert first != second


def test_validation_covers_every_target_once(prepared: Prepared) -> None:
    rows = prepared.validation.rows
    for ranks in (1, 3):
        loaders = [ValidationBatches(rows, micro_batch=4, rank=rank, ranks=ranks) for rank in range(ranks)]
        assert len({len(loader) for loader in loaders}) == 1
        seen = sum(int((loader[i].labels_BT != IGNORE).sum()) for loader in loaders for i in range(len(loader)))
        assert seen == (np.asarray(rows.labels) != IGNORE).sum()
    assert len(ValidationBatches(rows, micro_batch=1, rank=0, ranks=1, limit=5)) == 5

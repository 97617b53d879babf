"""From a thread to packed rows: nothing is lost, nothing cut, nothing counted twice."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rfr.data.batches import WeightedRows
from rfr.data.clean.cleaner import Clean
from rfr.data.ledger import ledger_rows
from rfr.data.loader import Batching, TrainBatches, ValidationBatches
from rfr.data.pack.long_stories import Drop
from rfr.data.pack.rows import PackedRows
from rfr.data.prepare import Prepared, Preprocess
from rfr.data.replies import thread_stories
from rfr.data.split import NO_TIME, Split
from rfr.data.tokenise import PROMPT_END, Encoder, prompt_tokens
from rfr.errors import UserError
from rfr.records import IGNORE, Observation, Post, Reply, Story, Thread
from rfr.store.store import Store


def _pair(**changes: object) -> Story:
    return Story(**{"thread_id": "t", "reply_id": "r", "prompt": "[WP] A.", "response": "word " * 30, "score": 1} | changes)  # type: ignore[arg-type]


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
    readings = {i: Observation(kind="reply", item_id=i, seen_at=7360.0, source="t", score=4) for i in replies if i != "unscored"}
    outcome = dict(
        zip(replies, thread_stories(Thread(post=post, replies=tuple(replies.values()), observations=readings)), strict=True)
    )
    kept, reason = outcome.pop("ok")
    assert reason is None
    assert (kept.score, kept.delay_s, kept.score_age_s, kept.post_score) == (4, 60.0, 7200.0, None)
    assert {name: reason for name, (_, reason) in outcome.items()} == {
        "deleted": "deleted or removed",
        "mod": "moderator",
        "bot": "bot",
        "unscored": None,
    }


@pytest.mark.parametrize(("author", "is_bot"), [
    ("AutoModerator", True), ("WritingPromptsBot", True), ("sneakpeekbot", True), ("remind-bot", True),
    ("Talbot", False), ("Robot", False), ("an_abbot", False), (None, False),
])  # fmt: skip
def test_bots_are_known_by_their_names(author: str | None, is_bot: bool) -> None:
    thread = Thread(post=_post("[WP] A."), replies=(Reply(id="r", post_id="p", body="A story.", author=author),), observations={})
    assert thread_stories(thread)[0][1] == ("bot" if is_bot else None)


def _post(title: str, **changes: object) -> Post:
    return Post(**{"id": "p", "subreddit": "s", "title": title} | changes)  # type: ignore[arg-type]


def test_a_cutoff_date_splits_by_time() -> None:
    split = Split(validation_share=0.2, salt="x", cutoff="2023-06-01")
    midnight = 1685577600.0  # date -u -d 2023-06-01 +%s
    assert split(_post("a", created_utc=midnight - 1)) == ("train", None)
    assert split(_post("a", created_utc=midnight)) == ("validation", None)
    assert split(_post("a")) == ("train", NO_TIME)
    with_offset = Split(validation_share=0.2, salt="x", cutoff="2023-06-01T00:00:00+05:00")
    assert with_offset(_post("a", created_utc=midnight - 5 * 3600)) == ("validation", None)
    with pytest.raises(UserError, match="must be a date such as"):
        Split(validation_share=0.2, salt="x", cutoff="June")


def test_reposts_share_a_side_and_shares_hold() -> None:
    split = Split(validation_share=0.2, salt="x")
    assert split(_post("[WP] You, wake UP!")) == split(_post("[wp] you wake up"))
    assert split(_post("[WP] 🚀")) == split(_post("[WP]  🚀 "))
    assert len({split(_post(f"[WP] {sign}"))[0] for sign in map("!".__mul__, range(1, 60))}) == 2, (
        "titles without words are not all one"
    )
    sides = [split(_post(f"prompt {i}"))[0] for i in range(4000)]
    assert 0.17 < sides.count("validation") / 4000 < 0.23
    with pytest.raises(UserError, match="between 0 and 1"):
        Split(validation_share=1.0, salt="")


# --- preparing and batches


def test_the_ledger_accounts_for_everything(prepared: Prepared) -> None:
    for name, split in (("train", prepared.train), ("validation", prepared.validation)):
        account = prepared.ledger[name]
        kept, left_out = account["kept"], account["left_out"]
        for unit in ("stories", "tokens"):
            assert account["came_in"][unit] == kept[unit] + sum(group[unit] for group in left_out.values()) > kept[unit]
        assert left_out["moderator"]["stories"] > 0
        assert left_out["moderator"]["tokens"] > 0
        assert kept["stories"] == len(split.stories)
        assert account["target_tokens"] == kept["tokens"] + kept["stories"] == split.target_tokens.sum()
        assert kept["karma"]["median"] == np.median([story.score for story in split.stories if story.score is not None])
        assert account["cuts"]["at a sentence"] == account["segments"] - kept["stories"] > 0  # some are longer than the block
        assert account["cuts"]["inside a word"] == 0
    assert {p.thread_id for p in prepared.train.stories}.isdisjoint({p.thread_id for p in prepared.validation.stories})
    rows = ledger_rows(prepared.ledger)
    assert [row["where"] for row in rows].count("kept") == 2
    assert len(rows) == 4 + len(prepared.ledger["train"]["left_out"]) + len(prepared.ledger["validation"]["left_out"])


def test_pairs_and_threads_are_read_as_they_were_written(prepared: Prepared) -> None:
    split = prepared.train
    everything = list(split.stories)
    assert [split.stories[i] for i in range(len(split.stories))] == everything
    assert split.stories[-1] == everything[-1]
    assert split.stories[3:9] == everything[3:9]
    assert [story for thread in split.threads for story in thread] == everything
    assert [split.threads[i] for i in range(len(split.threads))] == list(split.threads)
    assert len({thread[0].thread_id for thread in split.threads}) == len(split.threads) > 10
    assert pickle.loads(pickle.dumps(split.stories))[5] == everything[5]
    with pytest.raises(IndexError):
        split.stories[len(everything)]


def test_the_targets_of_a_storys_pieces_decode_to_the_story(prepared: Prepared) -> None:
    for split in (prepared.train, prepared.validation):
        for story, pieces in _pieces_by_story(split.rows).items():
            targets = np.concatenate([tokens[-count:] for tokens, count in map(split.rows.document, pieces)])
            assert targets[-1] == prepared.tokenizer.eos_token_id
            assert prepared.tokenizer.decode(targets[:-1]) == split.stories[story].response
        assert max(len(pieces) for pieces in _pieces_by_story(split.rows).values()) > 1


def _pieces_by_story(rows: PackedRows) -> dict[int, list[int]]:
    """In reading order."""
    pieces: dict[int, list[int]] = {}
    for piece in np.lexsort((rows.pieces.start, rows.pieces.story)):
        pieces.setdefault(int(rows.pieces.story[piece]), []).append(int(piece))
    assert sorted(pieces) == list(range(len(rows.stories)))
    return pieces


def test_every_piece_carries_its_prompt_and_its_context(prepared: Prepared) -> None:
    rows, tokenizer = prepared.train.rows, prepared.tokenizer
    continued = 0
    for piece in range(len(rows.pieces.story)):
        tokens, targets = rows.document(piece)
        story, start = int(rows.pieces.story[piece]), int(rows.pieces.start[piece])
        prompt = prompt_tokens(tokenizer, prepared.train.stories[story].prompt)
        assert tokens[: len(prompt)].tolist() == prompt
        first = int(rows.stories[story][1])
        context = rows.tokens[first + max(0, start - 16) : first + start]
        assert tokens[len(prompt) : len(tokens) - targets].tolist() == context.tolist()
        continued += start > 0
    assert continued > 50


def test_rows_are_whole_and_their_documents_apart(prepared: Prepared) -> None:
    packed = prepared.train.rows
    rows = packed.take(np.arange(len(packed)))
    assert rows.input_ids.shape == (len(packed), 128)
    assert ((rows.labels != IGNORE).sum(axis=1) == packed.row_targets).all()
    starts = (rows.positions == 0) & (rows.documents > 0)
    assert starts.sum() == len(packed.pieces.story) == rows.documents.max(axis=1).sum()
    assert (rows.labels[rows.documents == 0] == IGNORE).all()
    for row in range(len(packed)):
        for document in range(1, rows.documents[row].max() + 1):
            mine = np.flatnonzero(rows.documents[row] == document)
            assert (np.diff(mine) == 1).all()
            assert (rows.positions[row][mine] == np.arange(len(mine))).all()
            ids, labels = rows.input_ids[row][mine], rows.labels[row][mine]
            is_target = labels[:-1] != IGNORE
            assert (labels[:-1][is_target] == ids[1:][is_target]).all()  # never another document's token
            assert labels[-1] != IGNORE
    assert (np.bincount(rows.stories[rows.labels != IGNORE]) == prepared.train.target_tokens).all()


def test_an_end_of_text_marker_in_a_story_is_text(prepared: Prepared) -> None:
    encode = Encoder(prepared.tokenizer)
    prompt, story = encode(["[WP] A <|endoftext|> b", "He typed <|endoftext|> and left. Then came back."])
    assert prepared.tokenizer.eos_token_id not in [*prompt.ids, *story.ids]
    assert prompt_tokens(prepared.tokenizer, "[WP] A <|endoftext|> b") == [*prompt.ids, *encode([PROMPT_END])[0].ids]


ODD = [
    "“Run,” she said. I didn't… Then:\n\nnothing — at all! <|endoftext|>",
    "",
    " ",
    "\n\n",
    "é",
    "🦊🦊 ok 🦊",
    "a\x00b",
    "日本語。 テスト",
]


def test_tokens_begin_where_the_tokenizers_own_offsets_say(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "gpt2_tokenizer")
    encode = Encoder(tokenizer)
    for text, tokens in zip(ODD, encode(ODD), strict=True):
        assert tokenizer.decode(tokens.ids) == text
        assert tokenizer.eos_token_id not in tokens.ids
        if text.isascii():
            offsets = tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)["offset_mapping"]
            assert tokens.starts.tolist() == [start for start, _ in offsets]
        pieces = np.split(np.frombuffer(text.encode(), np.uint8), tokens.starts[1:])
        assert [tokenizer.decode([i]) for i in tokens.ids] == [
            piece.tobytes().decode(errors="replace") for piece in pieces
        ] or not text


def test_a_vocabulary_that_is_not_of_bytes_falls_back_on_offsets() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "one": 1, "two": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    (tokens,) = Encoder(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>"))(["one  é two"])
    assert tokens.ids.tolist() == [1, 0, 2]
    assert tokens.starts.tolist() == [0, 5, 8]


def test_an_empty_split_is_refused(demo_store: Path, prepared: Prepared, tmp_path: Path) -> None:
    preprocess = Preprocess(clean=Clean(min_words=10**6), split=Split(validation_share=0.2, salt=""), fit=Drop(), block_size=128)
    with Store(demo_store) as store, pytest.raises(UserError, match="train split is empty"):
        preprocess.prepare(store, lambda _: prepared.tokenizer, "empty", tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and not path.name.endswith(".partial")]


def _batches(prepared: Prepared, *, micro_batch: int, accumulate: int, rank: int, ranks: int) -> TrainBatches:
    weights = np.arange(1, len(prepared.train.stories) + 1, dtype=np.float64)
    return TrainBatches(
        WeightedRows(prepared.train.rows, weights),
        Batching(steps=50, seed=3, micro_batch=micro_batch, accumulate=accumulate),
        rank=rank,
        ranks=ranks,
    )


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
    rows = prepared.train.rows
    count = len(rows)
    batches = _batches(prepared, micro_batch=1, accumulate=2 * count // 50 + 1, rank=0, ranks=1)
    first = [batches[i].input_ids_BT.numpy().tobytes() for i in range(count)]
    second = [batches[i].input_ids_BT.numpy().tobytes() for i in range(count, 2 * count)]
    assert (
        sorted(first) == sorted(second) == sorted(row.astype(np.int64).tobytes() for row in rows.take(np.arange(count)).input_ids)
    )
    assert first != second


def test_validation_covers_every_target_once(prepared: Prepared) -> None:
    rows = prepared.validation.rows
    for ranks in (1, 3):
        loaders = [ValidationBatches(WeightedRows(rows), micro_batch=4, rank=rank, ranks=ranks) for rank in range(ranks)]
        assert len({len(loader) for loader in loaders}) == 1
        seen = sum(int((loader[i].labels_BT != IGNORE).sum()) for loader in loaders for i in range(len(loader)))
        assert seen == prepared.ledger["validation"]["target_tokens"]
    assert len(ValidationBatches(WeightedRows(rows), micro_batch=1, rank=0, ranks=1, limit=5)) == 5

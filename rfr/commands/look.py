"""`look=3`: shows three stories at every stage of preparation, from Reddit's text to the packed row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from rfr.data.clean.cleaner import clean_story
from rfr.data.clean.markdown import Removals
from rfr.data.pack.rows import PackedRows
from rfr.data.prepare import PreparedSplit
from rfr.records import Post, Reply, Story
from rfr.report.look_page import look_page, print_looks
from rfr.store.store import Store
from rfr.train.build import prepare
from rfr.train.recipe import Recipe
from rfr.train.summary import print_ledger
from rfr.utils.quiet import silence_libraries

PROMPT, CONTEXT, STORY, END, PADDING = KINDS = ("prompt", "context", "story", "end", "padding")


def look(recipe: Recipe, count: int) -> None:
    """Show what preparation makes of `count` training stories, in the terminal and on a page that a purge finds."""
    silence_libraries()
    prepared = prepare(recipe)
    with recipe.corpus.open() as store:
        looks = list(looks_at(prepared.train, prepared.tokenizer, store, count))
    print_looks(looks)
    print_ledger(prepared, recipe.preprocess.min_age_h)
    page = recipe.runs_dir / "look.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(
        look_page(looks, prepared.ledger, f"{len(looks)} of {len(prepared.train.stories):,} training stories"), "utf-8"
    )
    print(json.dumps({"look": str(page), "stories": [one.story.reply_id for one in looks]}), flush=True)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a row: what it is there for (one of KINDS), of which of the row's documents (from 1), and its text."""

    kind: str
    document: int
    text: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Tokens `start` to `end` of a story, and the row they are targets in."""

    start: int
    end: int
    row: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """One story on its whole way. `removed` has the kind and text of what cleaning took away."""

    raw_title: str
    raw: str
    story: Story
    removed: list[tuple[str, str]]
    segments: list[Segment]
    rows: dict[int, list[Span]]


def looks_at(split: PreparedSplit, tokenizer: PreTrainedTokenizerBase, store: Store, count: int) -> Iterator[Look]:
    """`count` stories, spread evenly over the split; every second one is a story that was cut, while there are such."""
    for number in _cut_and_whole(split.rows, count):
        story = split.stories[number]
        (post,), (reply,) = (
            list(store.select(record, f"{table} WHERE id = ?", (item,)))
            for record, table, item in ((Post, "post", story.thread_id), (Reply, "reply", story.reply_id))
        )
        removals = Removals()
        clean_story(reply.body, removals)
        segments = list(_segments(split.rows, number, tokenizer))
        yield Look(
            raw_title=post.title,
            raw=reply.body,
            story=story,
            removed=removals.pieces,
            segments=segments,
            rows={segment.row: list(_spans(split.rows, segment.row, tokenizer)) for segment in segments},
        )


def _cut_and_whole(rows: PackedRows, count: int) -> list[int]:
    pieces = np.bincount(rows.pieces.story, minlength=len(rows.stories))
    cut, whole = np.flatnonzero(pieces > 1), np.flatnonzero(pieces == 1)
    of_cut = min(len(cut), max(count // 2, count - len(whole)))
    spread = [
        those[np.linspace(0, len(those) - 1, share).astype(np.int64)]
        for those, share in ((cut, of_cut), (whole, min(len(whole), count - of_cut)))
    ]
    return sorted(np.concatenate(spread).tolist())


def _segments(rows: PackedRows, story: int, tokenizer: PreTrainedTokenizerBase) -> Iterator[Segment]:
    pieces = rows.pieces
    for piece in sorted(np.flatnonzero(pieces.story == story), key=lambda index: pieces.start[index]):
        tokens, targets = rows.document(int(piece))
        start, end = int(pieces.start[piece]), int(pieces.end[piece])
        text = str(tokenizer.decode(tokens[len(tokens) - targets :][: end - start]))
        yield Segment(start=start, end=end, row=int(pieces.row[piece]), text=text)


def _spans(rows: PackedRows, row: int, tokenizer: PreTrainedTokenizerBase) -> Iterator[Span]:
    """The spans of a row, in order. The last token of a document is only a label: it is shown and takes no position."""
    used = 0
    for document, piece in enumerate(np.flatnonzero(rows.pieces.row == row), start=1):
        tokens, targets = rows.document(int(piece))
        prompt = int(np.subtract(*rows.stories[int(rows.pieces.story[piece])][1::-1]))
        ends = int(tokens[-1]) == rows.eos
        borders = [0, prompt, len(tokens) - targets, len(tokens) - ends, len(tokens)]
        for kind, start, end in zip(KINDS, borders[:-1], borders[1:], strict=False):
            if end > start:
                yield Span(kind=kind, document=document, text=str(tokenizer.decode(tokens[start:end])), tokens=end - start)
        used += len(tokens) - 1
    if used < rows.block and rows.packed:
        yield Span(kind=PADDING, document=0, text="", tokens=rows.block - used)

"""Prepares a store: filters, cleans, splits, tokenises, packs, and counts what became of every reply.

Memory does not grow with the corpus: texts go in batches from one Arrow file to the next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rfr.data.filtering import NO_SCORE, ReplyFilter, read_filtered, remove_files, score_counts
from rfr.data.ledger import Ledger, no_posts, too_young_scores
from rfr.data.pack.long_stories import Fit
from rfr.data.pack.packing import BestFit, Packing
from rfr.data.pack.rows import PackedRows
from rfr.data.pack.writer import SplitWriter
from rfr.data.replies import MIN_AGE_H, POST_UNKNOWN
from rfr.data.split import SPLITS, Split
from rfr.data.story_table import StoryTable, Threads
from rfr.data.tokenise import Encoder, Tokens
from rfr.errors import UserError, require_whole
from rfr.ranges import Block, ZeroOrMore
from rfr.records import Story
from rfr.store.store import Store
from rfr.utils.cache import build_once, memoised
from rfr.utils.hashing import describe, key_of
from rfr.utils.parallel import prefetch


class EmptySplit(UserError):
    """A split in which no story is left."""

    def __init__(self, split: str, message: str) -> None:
        super().__init__(message)
        self.split = split


FORMAT = 7  # raise when what is cached changes
MakeTokenizer = Callable[[Iterable[Story]], PreTrainedTokenizerBase]


@dataclass(frozen=True, kw_only=True)
class PreparedSplit:
    """`stories[i]` is story i of the rows."""

    stories: StoryTable
    rows: PackedRows

    @property
    def threads(self) -> Threads:
        """The stories by thread, in the order of `stories`."""
        return Threads(self.stories)

    @property
    def target_tokens(self) -> np.ndarray:
        """Target tokens of each story, end-of-text included; int64 of shape (stories,)."""
        return self.rows.story_tokens + 1


@dataclass(frozen=True, kw_only=True)
class Prepared:
    train: PreparedSplit
    validation: PreparedSplit
    tokenizer: PreTrainedTokenizerBase
    ledger: dict


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """The preprocessing of a corpus; see `conf/preprocess/`.

    Args:
        scored_only: False: stories without a known score come in too.
        min_age_h: hours after posting; a score that was read earlier is not karma yet.
    """

    clean: Callable[[Story], Story | str]
    split: Split
    fit: Fit
    block_size: Block | None  # None: the model's own, to be filled in before anything is prepared
    packing: Packing = field(default_factory=BestFit)
    scored_only: bool = True
    min_age_h: ZeroOrMore = MIN_AGE_H

    def __post_init__(self) -> None:
        if self.block_size is not None:
            require_whole("model.block_size", self.block_size, least=16)
        if not isinstance(self.scored_only, bool):
            raise UserError(f"preprocess.scored_only must be true or false, not {self.scored_only}")
        if self.block_size is not None and self.fit.context_tokens > self.block_size // 2:
            raise UserError(
                f"preprocess.fit.context_tokens={self.fit.context_tokens} is more than half of "
                f"model.block_size={self.block_size}: set it to {self.block_size // 8}, say"
            )

    @property
    def _block_tokens(self) -> int:
        assert self.block_size is not None, "the model's own block is filled in before anything is prepared"
        return self.block_size

    def prepare(self, store: Store, make_tokenizer: MakeTokenizer, tokenizer_identity: object, cache_root: Path) -> Prepared:
        """Prepare a store, or load what was prepared from equal content, config and tokenizer before.

        Args:
            make_tokenizer: from the training stories to the tokenizer.
            tokenizer_identity: JSON data that identifies the tokenizer, for the cache's key.

        Raises:
            UserError: a split is empty.
        """
        key = key_of(FORMAT, memoised(cache_root, store.path, store.digest), describe(self), tokenizer_identity)
        return load(build_once(cache_root, key, lambda folder: self._build(store, make_tokenizer, folder)))

    def _build(self, store: Store, make_tokenizer: MakeTokenizer, folder: Path) -> None:
        self.filter_replies(store, folder)
        tokenizer = make_tokenizer(_kept(folder / "train"))
        tokenizer.save_pretrained(folder / "tokenizer")
        encoder, eos = Encoder(tokenizer), int(tokenizer.eos_token_id)
        ledger = self.pack(folder, encoder, eos)
        (folder / "ledger.json").write_text(json.dumps(ledger, indent=2))

    def filter_replies(self, store: Store, folder: Path) -> None:
        """Write every reply into the folder of its split: cleaned, or with the reason why it is left out."""
        for name in SPLITS:
            (folder / name).mkdir(parents=True)
        ReplyFilter(clean=self.clean, split=self.split, scored_only=self.scored_only, min_age_h=self.min_age_h)(store, folder)

    def pack(self, folder: Path, encoder: Encoder, eos: int) -> dict[str, Any]:
        """Pack the stories that passed the filter into rows; return the ledger of each split.

        One split's rows are planned while the next split is tokenised.
        """
        with ThreadPoolExecutor(1) as planner:
            ledgers, figures = {}, {}
            for name in SPLITS:
                writer = SplitWriter(folder / name, self.fit.context_tokens, self._block_tokens)
                ledgers[name] = self.tokenise(folder / name, writer, encoder)
                figures[name] = planner.submit(writer.pack, self.packing, eos)
            return {name: ledgers[name] | figures[name].result() for name in SPLITS}

    def tokenise(self, folder: Path, writer: SplitWriter, encoder: Encoder) -> dict[str, Any]:
        """Give a split's tokenised stories to its writer; return the split's ledger."""
        ledger = Ledger()
        with writer:
            for batch in prefetch(partial(_tokenised, encoder), read_filtered(folder)):
                kept = []
                for row, prompt, story in batch:
                    reason = row.pop("reason") or self.fit.refuses(len(prompt.ids), len(story.ids), self._block_tokens)
                    ledger.add(reason, len(story.ids), row["score"])
                    if reason is None:
                        kept.append(row)
                        writer.add(row["response"], prompt, story)
                writer.write_stories(kept)
        summary = ledger.summary() | {"scores": score_counts(folder)}
        remove_files(folder)
        if not summary["kept"]["stories"]:
            raise EmptySplit(folder.name, self._why_empty(folder.name, summary))
        return summary

    def _why_empty(self, split: str, ledger: dict[str, Any]) -> str:
        left_out = {reason: group["stories"] for reason, group in ledger["left_out"].items()}
        hints = [f"{ledger['came_in']['stories']} replies; left out: {left_out}"]
        if lacking := left_out.get(POST_UNKNOWN, 0):
            hints.append(no_posts(lacking, ledger["came_in"]["stories"]))
        if too_young := ledger["scores"]["too_young"]:
            hints.append(too_young_scores(too_young, ledger["scores"]["known"], self.min_age_h))
        if not ledger["came_in"]["stories"] and split == "validation":
            hints.append("no thread is held out: raise preprocess.split.validation_share")
        if left_out.get(NO_SCORE, 0) > ledger["came_in"]["stories"] / 2:
            hints.append("stories without karma can be cloned: preprocess.scored_only=false objective=bc")
        return f"the {split} split is empty ({'; '.join(hints)}): collect more, or change preprocess"


def _kept(folder: Path) -> Iterator[Story]:
    for rows in read_filtered(folder):
        for row in rows:
            if row.pop("reason") is None:
                yield Story(**row)


def _tokenised(encoder: Encoder, rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], Tokens, Tokens]]:
    """Each row with the tokens of its prompt and of its story; a thread's prompt is worked out once."""
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    conditions, stories = encoder.prompts(prompts, [row["response"] for row in rows])
    known = dict(zip(prompts, conditions, strict=True))
    return [(row, known[row["prompt"]], story) for row, story in zip(rows, stories, strict=True)]


def load(folder: Path) -> Prepared:
    """Load what `Preprocess.prepare` wrote into a folder; stories and rows are memory-mapped."""
    return Prepared(
        train=_load_split(folder / "train"),
        validation=_load_split(folder / "validation"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        ledger=json.loads((folder / "ledger.json").read_text()),
    )


def _load_split(folder: Path) -> PreparedSplit:
    return PreparedSplit(stories=StoryTable(folder / "stories.arrow"), rows=PackedRows.load(folder))

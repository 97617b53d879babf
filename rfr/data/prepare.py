"""Store -> clean pairs -> split -> tokens -> rows, with a ledger of where every pair went. Memory does not grow with the texts:
they pass by in batches, from one Arrow file to the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rfr.data.cache import cached, key_of
from rfr.data.fit import KINDS, Fit, allowed_cuts
from rfr.data.judge import SPLITS, forget, judge, judged, mark_repeats
from rfr.data.ledger import Account
from rfr.data.plan import Lengths, make_plan
from rfr.data.rows import PackedRows
from rfr.data.sentences import sentence_ends
from rfr.data.stories import COLUMNS, Pairs, Threads, writing
from rfr.data.tokenise import PROMPT_END, Encoder, Tokens, byte_positions
from rfr.records import Pair
from rfr.store import Store

FORMAT = 3  # raise when what is cached changes
MakeTokenizer = Callable[[Iterable[Pair]], PreTrainedTokenizerBase]


@dataclass(frozen=True, kw_only=True)
class PreparedSplit:
    """`pairs[i]` is story i of the rows."""

    pairs: Pairs
    rows: PackedRows

    @property
    def threads(self) -> Threads:
        """The pairs by thread, in the order of `pairs`."""
        return Threads(self.pairs)

    @property
    def target_tokens(self) -> np.ndarray:
        """Of each story, end-of-text included; int64 of shape (stories,)."""
        return self.rows.story_tokens + 1


@dataclass(frozen=True, kw_only=True)
class Prepared:
    train: PreparedSplit
    validation: PreparedSplit
    tokenizer: PreTrainedTokenizerBase
    ledger: dict


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """The preprocessing of a corpus; see `conf/preprocess/`."""

    clean: Callable[[Pair], Pair | str]
    split: Callable[[str], str]
    fit: Fit
    block_size: int

    def prepare(self, store: Store, make_tokenizer: MakeTokenizer, identity: object, cache_root: Path) -> Prepared:
        """Prepare a store, or load what was prepared from equal content, config and tokenizer before.

        Args:
            make_tokenizer: from the training pairs to the tokenizer.
            identity: JSON-able description of config and tokenizer, for the cache's key.

        Raises:
            ValueError: a split is empty.
        """
        key = key_of(FORMAT, store.digest(), identity)
        return load(cached(cache_root, key, lambda folder: self._build(store, make_tokenizer, folder)))

    def _build(self, store: Store, make_tokenizer: MakeTokenizer, folder: Path) -> None:
        for name in SPLITS:
            (folder / name).mkdir()
        judge(store, self.clean, self.split, folder)
        mark_repeats(folder)
        tokenizer = make_tokenizer(_kept(folder / "train"))
        tokenizer.save_pretrained(folder / "tokenizer")
        encoder, eos = Encoder(tokenizer), int(tokenizer.eos_token_id)
        ledger = {name: self._build_split(folder / name, encoder, eos) for name in SPLITS}
        (folder / "ledger.json").write_text(json.dumps(ledger, indent=2))

    def _build_split(self, folder: Path, encoder: Encoder, eos: int) -> dict[str, Any]:
        account, draft = Account(), _Draft(folder, self.fit.context_tokens, self.block_size)
        with draft:
            for rows in judged(folder):
                kept = []
                for row, prompt, story in _tokenised(encoder, rows):
                    reason = row.pop("reason") or self.fit.refuses(len(prompt.ids), len(story.ids), self.block_size)
                    account.book(reason, len(story.ids), row["score"])
                    if reason is None:
                        kept.append(row)
                        draft.add(row["response"], prompt, story)
                draft.write_pairs(kept)
        forget(folder)
        ledger = account.close()
        if not ledger["kept"]["pairs"]:
            left_out = {reason: group["pairs"] for reason, group in ledger["left_out"].items()}
            told = f"{ledger['came_in']['pairs']} replies; left out: {left_out}"
            raise ValueError(f"the {folder.name} split is empty ({told}): collect more, or change preprocess")
        return ledger | draft.pack(eos)


def _kept(folder: Path) -> Iterator[Pair]:
    for rows in judged(folder):
        for row in rows:
            if row.pop("reason") is None:
                yield Pair(**row)


def _tokenised(encoder: Encoder, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Tokens, Tokens]]:
    """Each row with the tokens of its prompt and of its story; a thread's prompt is worked out once."""
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    known = dict(zip(prompts, encoder([prompt + PROMPT_END for prompt in prompts]), strict=True))
    stories = encoder([row["response"] for row in rows])
    for row, story in zip(rows, stories, strict=True):
        yield row, known[row["prompt"]], story


class _Draft:
    """The stories of a split on their way into rows: tokens and possible cuts go to files, their lengths are kept."""

    def __init__(self, folder: Path, context: int, block: int) -> None:
        self._folder, self._context, self._block = folder, context, block
        self._places: list[tuple[int, int, int]] = []  # prompt, story, end
        self._cut_counts: list[int] = []
        self._end = 0

    def __enter__(self) -> _Draft:
        self._files = ExitStack()
        self._write_pairs = self._files.enter_context(writing(self._folder / "pairs.arrow", COLUMNS))
        self._tokens, self._cuts, self._kinds = (
            self._files.enter_context((self._folder / name).open("wb")) for name in ("tokens.bin", "cuts.bin", "kinds.bin")
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write_pairs(self, rows: list[dict[str, Any]]) -> None:
        self._write_pairs(rows)

    def add(self, text: str, prompt: Tokens, story: Tokens) -> None:
        """The next story."""
        start = self._end + len(prompt.ids)
        self._places.append((self._end, start, start + len(story.ids)))
        self._end = start + len(story.ids)
        self._tokens.write(prompt.ids.tobytes() + story.ids.tobytes())
        cuts = self._cuts_of(text, prompt, story) if len(prompt.ids) + len(story.ids) > self._block else None
        self._cut_counts.append(0 if cuts is None else len(cuts[0]))
        if cuts is not None:
            self._cuts.write(cuts[0].astype(np.int32).tobytes())
            self._kinds.write(cuts[1].astype(np.int8).tobytes())

    def _cuts_of(self, text: str, prompt: Tokens, story: Tokens) -> tuple[np.ndarray, np.ndarray]:
        longest = self._block - len(prompt.ids) - self._context  # beside end-of-text
        return allowed_cuts(story, text.encode(), byte_positions(text, sentence_ends(text)), longest)

    def pack(self, eos: int) -> dict[str, Any]:
        """Plan the rows and write what makes them; returns the ledger's figures about them."""
        places = np.array(self._places, np.int64)
        lengths = Lengths(
            prompts=places[:, 1] - places[:, 0], stories=places[:, 2] - places[:, 1],
            cuts=_mapped(self._folder / "cuts.bin", np.int32), cut_offsets=np.cumsum([0, *self._cut_counts]),
        )  # fmt: skip
        kinds = _mapped(self._folder / "kinds.bin", np.int8)
        rows = PackedRows(
            block=self._block, context=self._context, eos=eos, tokens=_mapped(self._folder / "tokens.bin", np.int32),
            stories=places, pieces=make_plan(lengths, self._block, self._context),
        )  # fmt: skip
        rows.save(self._folder)
        figures = _figures(rows, lengths, kinds)
        for name in ("cuts.bin", "kinds.bin"):
            (self._folder / name).unlink()
        return figures


def _mapped(path: Path, dtype: Any) -> np.ndarray:
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)


def _figures(rows: PackedRows, lengths: Lengths, kinds: np.ndarray) -> dict[str, Any]:
    pieces, targets = rows.pieces, int(rows.row_targets.sum())
    assert targets == int((lengths.stories + 1).sum()), "every story token and one end-of-text is a target exactly once"
    inner = pieces.end < lengths.stories[pieces.story]
    cuts = np.zeros(len(KINDS), np.int64)
    for story, end in zip(pieces.story[inner], pieces.end[inner], strict=True):
        place = np.searchsorted(lengths.cuts_of(story), end)
        cuts[kinds[lengths.cut_offsets[story] + place]] += 1
    taken = lengths.prompts[pieces.story] + np.minimum(pieces.start, rows.context) + pieces.end - pieces.start - inner
    return {
        "segments": len(pieces.story), "cuts": dict(zip(KINDS, cuts.tolist(), strict=True)), "target_tokens": targets,
        "rows": len(rows), "packing_efficiency": round(float(taken.sum()) / (len(rows) * rows.block), 4),
        "target_fraction": round(targets / (len(rows) * rows.block), 4),
    }  # fmt: skip


def load(folder: Path) -> Prepared:
    """What `Preprocess.prepare` left in a folder; pairs and rows are memory-mapped."""
    return Prepared(
        train=_load_split(folder / "train"),
        validation=_load_split(folder / "validation"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        ledger=json.loads((folder / "ledger.json").read_text()),
    )


def _load_split(folder: Path) -> PreparedSplit:
    return PreparedSplit(pairs=Pairs(folder / "pairs.arrow"), rows=PackedRows.load(folder))

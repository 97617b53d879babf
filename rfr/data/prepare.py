"""Store -> clean pairs -> split -> tokens -> fitted sequences -> packed rows, with a ledger of where every pair went."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rfr.data.cache import cached, key_of
from rfr.data.pack import pack
from rfr.data.pairs import thread_pairs
from rfr.data.tokenise import Tokens, tokenise
from rfr.records import IGNORE, Pair, Rows, Sequence
from rfr.store import Store

SPLITS = ("train", "validation")
FORMAT = 1  # raise when what is cached changes
Fit = Callable[[Tokens, int, int, int], "list[Sequence] | str"]
MakeTokenizer = Callable[[list[Pair]], PreTrainedTokenizerBase]


@dataclass(frozen=True, kw_only=True)
class PreparedSplit:
    """`pairs[i]` is story i of the rows; `target_tokens` its number of targets, int64 of shape (stories,)."""

    pairs: list[Pair]
    target_tokens: np.ndarray
    rows: Rows

    @property
    def threads(self) -> list[list[Pair]]:
        """The pairs by thread, in the order of `pairs`."""
        groups: dict[str, list[Pair]] = defaultdict(list)
        for pair in self.pairs:
            groups[pair.thread_id].append(pair)
        return list(groups.values())


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
        pairs, ledger = self._judge(store)
        tokenizer = make_tokenizer(pairs["train"])
        tokenizer.save_pretrained(folder / "tokenizer")
        for name in SPLITS:
            self._build_split(pairs[name], tokenizer, ledger[name], folder / name)
        (folder / "ledger.json").write_text(json.dumps(ledger, indent=2))

    def _judge(self, store: Store) -> tuple[dict[str, list[Pair]], dict]:
        """Pairs per split, and a ledger whose reasons add up to what came in."""
        pairs: dict[str, list[Pair]] = {name: [] for name in SPLITS}
        ledger: dict = {name: {"replies": 0, "left_out": Counter()} for name in SPLITS}
        for thread in store.threads():
            split = self.split(thread.post.title)
            for candidate in thread_pairs(thread):
                outcome = candidate if isinstance(candidate, str) else self.clean(candidate)
                ledger[split]["replies"] += 1
                if isinstance(outcome, str):
                    ledger[split]["left_out"][outcome] += 1
                else:
                    pairs[split].append(outcome)
        return pairs, ledger

    def _build_split(self, pairs: list[Pair], tokenizer: PreTrainedTokenizerBase, ledger: dict, folder: Path) -> None:
        kept: list[Pair] = []
        sequences: list[Sequence] = []
        story_tokens: list[int] = []
        for pair in pairs:
            tokens = tokenise(tokenizer, pair.prompt, pair.response)
            fitted = self.fit(tokens, self.block_size, tokenizer.eos_token_id, len(kept))
            if isinstance(fitted, str):
                ledger["left_out"][fitted] += 1
            else:
                kept.append(pair)
                sequences += fitted
                story_tokens.append(len(tokens.story))
        if not kept:
            raise ValueError(f"the {folder.name} split is empty ({_told(ledger)}): collect more, or change preprocess")
        rows = pack(sequences, self.block_size)
        _save_split(folder, kept, rows)
        _close_ledger(ledger, kept, sequences, story_tokens, rows)


def _told(ledger: dict) -> str:
    return f"{ledger['replies']} replies; left out: {dict(ledger['left_out'])}"


def _close_ledger(ledger: dict, kept: list[Pair], sequences: list[Sequence], story_tokens: list[int], rows: Rows) -> None:
    targets = int((rows.labels != IGNORE).sum())
    ledger |= {
        "left_out": dict(ledger["left_out"]), "pairs": len(kept), "threads": len({pair.thread_id for pair in kept}),
        "story_tokens": sum(story_tokens), "target_tokens": targets, "segments": len(sequences),
        "rows": len(rows.labels), "packing_efficiency": round(float((rows.documents > 0).mean()), 4),
        "target_fraction": round(targets / rows.labels.size, 4),
    }  # fmt: skip
    assert ledger["replies"] == len(kept) + sum(ledger["left_out"].values()), "the ledger lost a reply"
    assert targets == sum(story_tokens) + len(kept), "every story token and one end-of-text is a target exactly once"


def _save_split(folder: Path, pairs: list[Pair], rows: Rows) -> None:
    folder.mkdir()
    (folder / "pairs.jsonl").write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))
    for name, array in asdict(rows).items():
        np.save(folder / f"{name}.npy", array)


def load(folder: Path) -> Prepared:
    """What `Preprocess.prepare` left in a folder; the rows are memory-mapped."""
    return Prepared(
        train=_load_split(folder / "train"),
        validation=_load_split(folder / "validation"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        ledger=json.loads((folder / "ledger.json").read_text()),
    )


def _load_split(folder: Path) -> PreparedSplit:
    with (folder / "pairs.jsonl").open() as lines:
        pairs = [Pair(**json.loads(line)) for line in lines]
    rows = Rows(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in Rows.__dataclass_fields__})
    stories = np.asarray(rows.stories)[np.asarray(rows.labels) != IGNORE]
    return PreparedSplit(pairs=pairs, target_tokens=np.bincount(stories, minlength=len(pairs)), rows=rows)

"""`make bench-data`: what preparation does to a real corpus, and how fast; beside TRL, which truncates.

`python -m bench.data [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bench.lib.data_costs import memory, prepare, speeds
from bench.lib.report import ROOT, Figure, record
from rfr.collect.files.table_import import TableContent, import_table
from rfr.data.prepare import Prepared, PreparedSplit
from rfr.data.tokenise import PROMPT_END, Encoder
from rfr.records import IGNORE
from rfr.store.store import Store

COLUMNS = ("title", "body", "score", "post_id", "reply_id", "post_score", "post_created_utc")


def exactness(prepared: Prepared) -> list[Figure]:
    """Counted from the rows themselves, not from the ledger."""
    story_tokens = targets = truncated = positions = taken = 0
    for split in (prepared.train, prepared.validation):
        truncated += sum(
            text != story.response for text, story in zip(_joined(split, prepared.tokenizer), split.stories, strict=True)
        )
        rows = split.rows
        for start in range(0, len(rows), 256):
            part = rows.take(np.arange(start, min(start + 256, len(rows))))
            targets += int(((part.labels != IGNORE) & (part.labels != rows.eos)).sum())
            taken += int((part.documents > 0).sum())
            positions += part.documents.size
        encode = Encoder(prepared.tokenizer)
        story_tokens += sum(len(tokens.ids) for story in split.stories for tokens in encode([story.response]))
    learnt = targets + sum(len(split.stories) for split in (prepared.train, prepared.validation))
    return [
        Figure(name="story_tokens", value=story_tokens, target="", meaning="tokens of the stories that are kept"),
        Figure(name="target_tokens", value=targets, target="the same", meaning="tokens that are targets in some row"),
        Figure(
            name="truncated_pairs", value=truncated, target="0", meaning="stories that their targets, joined, don't spell out"
        ),
        Figure(name="packing_efficiency", value=taken / positions, target=">= 0.95", meaning="positions that are no padding"),
        Figure(
            name="target_fraction",
            value=learnt / positions,
            target=">= 0.83",
            meaning="targets with end-of-text, of all positions",
        ),
    ]


def _joined(split: PreparedSplit, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """What the targets of each story's pieces say, one after the other."""
    pieces = split.rows.pieces
    order = np.lexsort((pieces.start, pieces.story))
    for mine in np.split(order, np.flatnonzero(np.diff(pieces.story[order])) + 1):
        targets = np.concatenate([tokens[-count:] for tokens, count in map(split.rows.document, mine)])
        assert targets[-1] == split.rows.eos
        yield str(tokenizer.decode(targets[:-1]))


def cuts(prepared: Prepared) -> Figure:
    """Every place where a story was cut, shown to another sentence splitter."""
    from pysbd import Segmenter

    splitter, cut_count, inside = Segmenter(language="en", clean=False, char_span=True), 0, 0
    for split in (prepared.train, prepared.validation):
        pieces, rows = split.rows.pieces, split.rows
        for story in np.unique(pieces.story[pieces.start > 0]):
            spans = splitter.segment(split.stories[int(story)].response)
            first = int(rows.stories[story][1])
            for start in pieces.start[(pieces.story == story) & (pieces.start > 0)]:
                cut_at = len(prepared.tokenizer.decode(rows.tokens[first : first + int(start)]))
                cut_count += 1
                inside += any(span.start < cut_at < span.start + len(span.sent.rstrip()) for span in spans)
    return Figure(name="sentences_cut_share", value=inside / cut_count, target="<= 0.01",
                  meaning=f"of {cut_count:,} places where stories are cut, those that pysbd calls inside a sentence")  # fmt: skip


def lost_by_trl(prepared: Prepared, folder: Path) -> Figure:
    """The same stories through SFTTrainer: what its batches hold as it comes, and with its `max_length` taken away."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    stories = [story for split in (prepared.train, prepared.validation) for story in split.stories]
    stories = Dataset.from_list([{"prompt": story.prompt + PROMPT_END, "completion": story.response} for story in stories])
    shown, total = (_trl_targets(stories, prepared.tokenizer, folder, **limit) for limit in ({}, {"max_length": None}))
    return Figure(name="trl_tokens_lost", value=total - shown, target="",
                  meaning=f"story tokens that TRL's SFTTrainer, as it comes, cuts: {1 - shown / total:.1%} of them")  # fmt: skip


def _trl_targets(stories: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, **settings: Any) -> int:
    """Tokens, without end-of-text, that are labels in an epoch of its batches."""
    from transformers import GPT2Config, GPT2LMHeadModel
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1)),
        SFTConfig(output_dir=str(folder), report_to="none", use_cpu=True, **settings),
        train_dataset=stories, processing_class=tokenizer,
    )  # fmt: skip
    batches = (batch["labels"] for batch in trainer.get_train_dataloader())
    return sum(int(((labels != IGNORE) & (labels != tokenizer.eos_token_id)).sum()) for labels in batches)


def main(table: Path, tokenizer_name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        folder, store = Path(scratch), Path(scratch) / "real.db"
        with Store(store, write=True) as opened:
            import_table(opened, table, TableContent({name: name for name in COLUMNS}, "WritingPrompts"))
        prepared = prepare(store, AutoTokenizer.from_pretrained(tokenizer_name), folder / "cache")
        figures = [*exactness(prepared), cuts(prepared), lost_by_trl(prepared, folder / "trl")]
        figures += [*speeds(store, tokenizer_name, folder), *memory(store, tokenizer_name, folder)]
        ledger = {name: account["kept"]["stories"] for name, account in prepared.ledger.items()}
    record("data", figures, ["tokenizers", "pysbd", "trl"], {"kept pairs": json.dumps(ledger)})


if __name__ == "__main__":
    shared = ROOT.parent / "shared" / "data"
    paths = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])

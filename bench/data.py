"""`make bench-data`: what preparation does to a real corpus, and how fast; beside TRL, which truncates.

`python -m bench.data [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bench.record import ROOT, Figure, record
from rfr.data.clean import Clean
from rfr.data.fit import Segment
from rfr.data.prepare import Prepared, PreparedSplit, Preprocess
from rfr.data.split import SPLITS, Split
from rfr.data.tokenise import PROMPT_END, Encoder
from rfr.records import IGNORE, Observation, Post, Reply
from rfr.reddit.tables import import_table
from rfr.store import Store

BLOCK, CONTEXT, ROUNDS, COPIES = 1024, 128, 3, 10
COLUMNS = ("title", "body", "score", "post_id", "reply_id", "post_score", "post_created_utc")
OURS = Preprocess(
    clean=Clean(min_words=20),
    split=Split(validation_share=0.1, salt="rfr"),
    fit=Segment(context_tokens=CONTEXT),
    block_size=BLOCK,
)


def prepare(store: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> Prepared:
    with Store(store) as opened:
        return OURS.prepare(opened, lambda _: tokenizer, "bench", root)


# --- what becomes of the stories


def exactness(prepared: Prepared) -> list[Figure]:
    """Counted from the rows themselves, not from the ledger."""
    story_tokens = targets = truncated = places = taken = 0
    for split in (prepared.train, prepared.validation):
        truncated += sum(
            text != pair.response for text, pair in zip(_joined(split, prepared.tokenizer), split.pairs, strict=True)
        )
        rows = split.rows
        for start in range(0, len(rows), 256):
            part = rows.take(np.arange(start, min(start + 256, len(rows))))
            targets += int(((part.labels != IGNORE) & (part.labels != rows.eos)).sum())
            taken += int((part.documents > 0).sum())
            places += part.documents.size
        encode = Encoder(prepared.tokenizer)
        story_tokens += sum(len(tokens.ids) for pair in split.pairs for tokens in encode([pair.response]))
    learnt = targets + sum(len(split.pairs) for split in (prepared.train, prepared.validation))
    return [
        Figure(name="story_tokens", value=story_tokens, target="", meaning="tokens of the stories that are kept"),
        Figure(name="target_tokens", value=targets, target="the same", meaning="tokens that are targets in some row"),
        Figure(
            name="truncated_pairs", value=truncated, target="0", meaning="stories that their targets, joined, don't spell out"
        ),
        Figure(name="packing_efficiency", value=taken / places, target=">= 0.95", meaning="places that are no padding"),
        Figure(name="target_fraction", value=learnt / places, target=">= 0.83", meaning="targets, end-of-text included / places"),
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

    splitter, places, inside = Segmenter(language="en", clean=False, char_span=True), 0, 0
    for split in (prepared.train, prepared.validation):
        pieces, rows = split.rows.pieces, split.rows
        for story in np.unique(pieces.story[pieces.start > 0]):
            spans = splitter.segment(split.pairs[int(story)].response)
            first = int(rows.stories[story][1])
            for start in pieces.start[(pieces.story == story) & (pieces.start > 0)]:
                place = len(prepared.tokenizer.decode(rows.tokens[first : first + int(start)]))
                places += 1
                inside += any(span.start < place < span.start + len(span.sent.rstrip()) for span in spans)
    return Figure(name="sentences_cut_share", value=inside / places, target="<= 0.01",
                  meaning=f"of {places:,} places where stories are cut, those that pysbd calls inside a sentence")  # fmt: skip


def lost_by_trl(prepared: Prepared, folder: Path) -> Figure:
    """The same stories through SFTTrainer: what its batches hold as it comes, and with its `max_length` taken away."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    pairs = [pair for split in (prepared.train, prepared.validation) for pair in split.pairs]
    stories = Dataset.from_list([{"prompt": pair.prompt + PROMPT_END, "completion": pair.response} for pair in pairs])
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


# --- speed and memory


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def speeds(store: Path, name: str, folder: Path) -> list[Figure]:
    """The tokenizer alone, the packing of judged stories, and the whole; in turn, several times."""
    alone, packing, whole = [], [], []
    texts: list[str] = []
    for number in range(ROUNDS):
        root = folder / f"round{number}"
        tokenizer = AutoTokenizer.from_pretrained(name)
        whole.append(_seconds(lambda: prepare(store, tokenizer, root)))  # noqa: B023
        if not texts:
            prepared = prepare(store, tokenizer, root)
            pairs = [pair for split in (prepared.train, prepared.validation) for pair in split.pairs]
            texts = [text for pair in pairs for text in (pair.response,)] + list({pair.prompt: None for pair in pairs})
        backend = AutoTokenizer.from_pretrained(name).backend_tokenizer
        alone.append(_seconds(lambda: [backend.encode_batch_fast(texts[at : at + 500]) for at in range(0, len(texts), 500)]))  # noqa: B023
        packing.append(_packing_seconds(store, AutoTokenizer.from_pretrained(name), root / "again"))
        shutil.rmtree(root)
    taken = median(alone)
    return [
        Figure(name="fit_pack_vs_tokenizer", value=taken / median(packing), target=">= 0.7",
               meaning=f"speed of tokenise + fit + pack + write / that of the tokenizer alone ({taken:.1f} s)"),
        Figure(name="prepare_vs_tokenizer", value=taken / median(whole), target=">= 0.3",
               meaning=f"speed of the whole preparation, near duplicates included ({median(whole):.1f} s)"),
    ]  # fmt: skip


def _packing_seconds(store: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> float:
    root.mkdir()
    with Store(store) as opened:
        OURS.judge(opened, root)
    encoder, eos = Encoder(tokenizer), int(tokenizer.eos_token_id)
    return _seconds(lambda: [OURS.pack(root / name, encoder, eos) for name in SPLITS])


def peak_mib(store: Path, tokenizer: str, root: Path) -> float:
    """Of a preparation in a process of its own, its children included: the most memory they held together."""
    import psutil

    child = subprocess.Popen([sys.executable, "-m", "bench.data", "--prepare", str(store), tokenizer, str(root)],
                             cwd=ROOT, stdout=subprocess.DEVNULL)  # fmt: skip
    process, peak = psutil.Process(child.pid), 0
    while child.poll() is None:
        try:
            peak = max(peak, sum(part.memory_info().rss for part in (process, *process.children(recursive=True))))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.05)
    assert child.returncode == 0
    return peak / 2**20


def warm_start_s(store: Path, tokenizer: str, root: Path) -> float:
    """Seconds until a prepared corpus is there again, in a process of its own, its imports not counted."""
    done = subprocess.run([sys.executable, "-m", "bench.data", "--prepare", str(store), tokenizer, str(root)],
                          cwd=ROOT, capture_output=True, text=True, check=True)  # fmt: skip
    return float(done.stdout.split()[-1])


def copies(store: Path, target: Path, count: int) -> None:
    """Every thread `count` times, from the second time on with its words shuffled."""
    with Store(store) as old, Store(target, write=True) as new, new.transaction():
        for thread in old.threads():
            for copy in range(count):
                rng = random.Random(f"{thread.post.id} {copy}")
                ids = {item: f"{item}-{copy}" for item in (thread.post.id, *(reply.id for reply in thread.replies))}
                new.add([Post(**vars(thread.post) | {"id": ids[thread.post.id], "title": f"{thread.post.title} {copy}"})])
                for reply in thread.replies:
                    body = _shuffled(reply.body, rng) if copy else reply.body
                    new.add([Reply(**vars(reply) | {"id": ids[reply.id], "post_id": ids[thread.post.id], "body": body})])
                new.add(Observation(**vars(seen) | {"item_id": ids[item]}) for item, seen in thread.observations.items())


def _shuffled(text: str, rng: random.Random) -> str:
    """Within each line."""
    lines = [line.split(" ") for line in text.split("\n")]
    for line in lines:
        rng.shuffle(line)
    return "\n".join(" ".join(line) for line in lines)


def memory(store: Path, tokenizer: str, folder: Path) -> list[Figure]:
    """Of one copy of the corpus and of ten; and how soon one is there again."""
    many = folder / "many.db"
    copies(store, many, COPIES)
    one, ten = (peak_mib(path, tokenizer, folder / path.stem) for path in (store, many))
    warm = median(warm_start_s(store, tokenizer, folder / store.stem) for _ in range(ROUNDS))
    return [
        Figure(name="rss_growth_10x", value=ten / one, target="<= 1.5",
               meaning=f"peak memory for {COPIES} copies, {ten:,.0f} MiB / that for one, {one:,.0f} MiB; all processes"),
        Figure(name="warm_start_s", value=warm, target="< 1", meaning="seconds to load what was prepared before"),
    ]  # fmt: skip


def main(table: Path, tokenizer_name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        folder, store = Path(scratch), Path(scratch) / "real.db"
        with Store(store, write=True) as opened:
            import_table(opened, table, {name: name for name in COLUMNS}, subreddit="WritingPrompts")
        prepared = prepare(store, AutoTokenizer.from_pretrained(tokenizer_name), folder / "cache")
        figures = [*exactness(prepared), cuts(prepared), lost_by_trl(prepared, folder / "trl")]
        figures += [*speeds(store, tokenizer_name, folder), *memory(store, tokenizer_name, folder)]
        ledger = {name: account["kept"]["pairs"] for name, account in prepared.ledger.items()}
    record("data", figures, ["tokenizers", "pysbd", "trl"], {"kept pairs": json.dumps(ledger)})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--prepare"]:
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[3])
        print(_seconds(lambda: prepare(Path(sys.argv[2]), tokenizer, Path(sys.argv[4]))))
    else:
        shared = ROOT.parent / "shared" / "data"
        places = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
        main(Path(places[0]), places[1])

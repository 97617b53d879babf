"""What preparation costs: seconds beside the tokenizer's own, and memory as the corpus grows; part of `make bench-data`."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bench.lib.report import ROOT, Figure
from rfr.data.clean.cleaner import Clean
from rfr.data.pack.long_stories import Segment
from rfr.data.prepare import Prepared, Preprocess
from rfr.data.split import Split
from rfr.data.tokenise import Encoder
from rfr.records import Observation, Post, Reply
from rfr.store.store import Store

BLOCK, CONTEXT, ROUNDS, COPIES = 1024, 128, 5, 10
OURS = Preprocess(
    clean=Clean(min_words=20),
    split=Split(validation_share=0.1, salt="rfr"),
    fit=Segment(context_tokens=CONTEXT),
    block_size=BLOCK,
)


def prepare(store: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> Prepared:
    with Store(store) as opened:
        return OURS.prepare(opened, lambda _: tokenizer, "bench", root)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def speeds(store: Path, name: str, folder: Path) -> list[Figure]:
    """The whole preparation, the tokenizer alone and the packing of judged stories, in turn, several times; medians of ratios."""
    whole, packed, seconds = [], [], []
    for number in range(ROUNDS):
        root = folder / f"round{number}"
        tokenizer = AutoTokenizer.from_pretrained(name)
        taken = _seconds(lambda: prepare(store, tokenizer, root))  # noqa: B023
        alone = _tokenizer_seconds(prepare(store, tokenizer, root), name)
        packing = _packing_seconds(store, AutoTokenizer.from_pretrained(name), root / "again")
        whole.append(alone / taken)
        packed.append(alone / packing)
        seconds.append((alone, packing, taken))
        shutil.rmtree(root)
    alone, packing, taken = (median(times) for times in zip(*seconds, strict=True))
    return [
        Figure(name="fit_pack_vs_tokenizer", value=median(packed), target=">= 0.7",
               meaning=f"speed of tokenise + fit + pack + write ({packing:.1f} s) / that of the tokenizer alone ({alone:.1f} s); "
                       f"of {ROUNDS} pairs {min(packed):.2f} to {max(packed):.2f}"),
        Figure(name="prepare_vs_tokenizer", value=median(whole), target=">= 0.38",
               meaning=f"speed of the whole preparation, near duplicates included ({taken:.1f} s); "
                       f"of {ROUNDS} pairs {min(whole):.2f} to {max(whole):.2f}"),
    ]  # fmt: skip


def _tokenizer_seconds(prepared: Prepared, name: str) -> float:
    stories = [story for split in (prepared.train, prepared.validation) for story in split.stories]
    texts = [story.response for story in stories] + list({story.prompt: None for story in stories})
    backend = AutoTokenizer.from_pretrained(name).backend_tokenizer
    return _seconds(lambda: [backend.encode_batch_fast(texts[at : at + 500]) for at in range(0, len(texts), 500)])


def _packing_seconds(store: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> float:
    root.mkdir()
    with Store(store) as opened:
        OURS.filter_replies(opened, root)
    encoder, eos = Encoder(tokenizer), int(tokenizer.eos_token_id)
    return _seconds(lambda: OURS.pack(root, encoder, eos))


def peak_mib(store: Path, tokenizer: str, root: Path) -> float:
    """Of a preparation in a process of its own, its children included: the most memory they held together."""
    import psutil

    child = subprocess.Popen([sys.executable, "-m", "bench.lib.data_costs", str(store), tokenizer, str(root)],
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
    done = subprocess.run([sys.executable, "-m", "bench.lib.data_costs", str(store), tokenizer, str(root)],
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
                readings = filter(None, [thread.post_observation, *thread.observations.values()])
                new.add(Observation(**vars(seen) | {"item_id": f"{seen.item_id}-{copy}"}) for seen in readings)


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
        Figure(name="warm_start_s", value=warm, target="<= 1", meaning="seconds to load what was prepared before"),
    ]  # fmt: skip


if __name__ == "__main__":  # one preparation, in a process of its own: store, tokenizer, cache
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
    print(_seconds(lambda: prepare(Path(sys.argv[1]), tokenizer, Path(sys.argv[3]))))

"""`make bench`: how fast and in how much memory rfr trains GPT-2, beside TRL, a plain Hugging Face loop and the machine's limit.

`python -m bench.train [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.lib.peak_memory import Watched
from bench.lib.report import ROOT, Figure, record, require_bf16
from bench.lib.train_costs import BLOCK, Corpus, Run, growth, memory_by_block, train
from rfr.data.replies import thread_stories
from rfr.data.tokenise import PROMPT_END
from rfr.store.store import Store
from rfr.train.flops import measured_flops, training_flops_per_token

PARAMETERS = 124_439_808
TRL = str(ROOT / ".venv-trl" / "bin" / "python")  # an environment of its own: libraries load one another where they find them
ROWS, STEPS, ROUNDS = 8, 2, 2  # rows of a global batch; optimizer steps of the others' runs, the first not timed; runs of each
STORIES = 400  # more than enough for so many rows
OURS = [f"trainer.max_steps={STEPS + 1}", "trainer.micro_batch=1", f"trainer.accumulate={ROWS}"]
LOOP = {"micro_batch": 1, "accumulate": ROWS}
PLOT = "peak memory over the size of a block"
TRL_TRIED = {  # what may make it faster than it comes; tried one after the other before the comparison
    f"{rows} rows at once": {
        "per_device_train_batch_size": rows, "gradient_accumulation_steps": ROWS // rows, "gradient_checkpointing": False,
    }
    for rows in (1, 2)
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Others:
    """The stories as JSON lines, for what rfr is compared with."""

    stories: Path
    tokenizer: str
    python: str = TRL

    def run(self, which: str, steps: int, settings: dict[str, Any]) -> Run:
        """In a process of its own, as rfr is."""
        arguments = [which, str(self.stories), self.tokenizer, str(steps), json.dumps(settings)]
        child = Watched([self.python, "-m", "bench.lib.baselines", *arguments], cwd=ROOT, stdout=subprocess.PIPE)
        assert child.process.stdout is not None
        lines = child.process.stdout.read().splitlines()
        if child.wait() != 0:
            raise SystemExit(f"{which} failed with {settings}")
        timed = json.loads(lines[-1])
        seconds = sum(step["seconds"] for step in timed)
        return Run(tokens_per_second=sum(step["tokens"] for step in timed) / seconds, step_seconds=seconds / len(timed),
                   peak_gib=child.peak_gib)  # fmt: skip


def limit() -> float:
    """Tokens per second, were nothing done but the matrix products of 6 N FLOPs per token, as fast as large ones are here."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rate = max(measured_flops(device, torch.bfloat16, size) for size in (1024, 2048, 4096))
    return rate / training_flops_per_token(PARAMETERS)


def best_of_trl(others: Others) -> str:
    """The fastest of the settings tried, each for two steps."""
    tried = {name: others.run("trl", 2, settings).tokens_per_second for name, settings in TRL_TRIED.items()}
    speeds = ", ".join(f"{name} {speed:.1f}" for name, speed in tried.items())
    print(f"TRL without activation checkpointing, tokens/s: {speeds}", flush=True)
    return max(tried, key=lambda name: tried[name])


def compare(corpus: Corpus, others: Others) -> list[Figure]:
    """Everything in turn, several times over; medians, and ratios of each round's own."""
    best = best_of_trl(others)
    rounds = []
    for number in range(ROUNDS):
        before, ours, after = limit(), train(corpus, f"rfr-{number}", OURS), limit()  # the machine's speed drifts
        rounds.append({
            "limit": (before + after) / 2,
            "rfr": ours,
            "rfr_compiled": train(corpus, f"compiled-{number}", [*OURS, "model.compile=true"]),
            "trl_default": others.run("trl", STEPS, {}),
            "trl_best": others.run("trl", STEPS, TRL_TRIED[best]),
            "hf": others.run("loop", STEPS, LOOP),
        })  # fmt: skip
        speeds = {name: run.tokens_per_second if isinstance(run, Run) else run for name, run in rounds[-1].items()}
        print(f"round {number}: " + ", ".join(f"{name} {speed:.1f} tokens/s" for name, speed in speeds.items()), flush=True)
    return _figures(rounds, best)


def _figures(rounds: Sequence[dict[str, Any]], best: str) -> list[Figure]:
    runs = {name: [of_round[name] for of_round in rounds] for name in rounds[0]}
    speed = {name: median(run.tokens_per_second for run in runs[name]) for name in runs if name != "limit"}
    peak = {name: median(run.peak_gib for run in runs[name]) for name in speed}
    ratio = {name: median(a.tokens_per_second / b.tokens_per_second for a, b in zip(runs["rfr"], runs[name], strict=True))
             for name in speed}  # fmt: skip
    share = median(run.tokens_per_second / most for run, most in zip(runs["rfr"], runs["limit"], strict=True))
    what = {
        "rfr": f"rfr: {' '.join(corpus_settings())}", "rfr_compiled": "rfr with model.compile=true",
        "trl_default": "TRL's SFTTrainer, packed, else as it comes",
        "trl_best": f"TRL's SFTTrainer, packed, no activation checkpointing, {best}: the fastest of {len(TRL_TRIED)} settings",
        "hf": "a plain Hugging Face loop, autocast, one row at a time, documents not isolated",
    }  # fmt: skip
    return [
        *(Figure(name=f"tok_s_{name}", value=speed[name], target="", meaning=f"tokens/s, {what[name]}") for name in speed),
        Figure(name="tok_s_limit", value=median(runs["limit"]), target="", meaning="tokens/s that bf16 products alone allow"),
        Figure(name="rfr_vs_trl_default", value=ratio["trl_default"], target=">= 2.5", meaning="speed, median of the rounds"),
        Figure(name="rfr_vs_trl_best", value=ratio["trl_best"], target=">= 1.5", meaning="speed, likewise"),
        Figure(name="rfr_vs_limit", value=share, target=">= 0.70", meaning="speed, likewise"),
        *(Figure(name=f"rss_gib_{name}", value=peak[name], target="", meaning="peak memory, all processes") for name in speed),
        Figure(name="compiled_vs_rfr", value=1 / ratio["rfr_compiled"], target="", meaning="speed with torch.compile, likewise"),
        Figure(name="rss_vs_trl_best", value=peak["rfr"] / peak["trl_best"], target="<= 0.6", meaning="peak memory"),
    ]  # fmt: skip


def corpus_settings() -> list[str]:
    return [setting for setting in Corpus.SETTINGS if setting.startswith(("strategy", "precision", "optimizer"))]


def write_stories(store: Path, target: Path, count: int = STORIES) -> None:
    """What TRL takes: prompt and completion, one pair to a line."""
    with Store(store) as opened:
        stories = (story for thread in opened.threads() for story, reason in thread_stories(thread) if reason is None)
        rows = [{"prompt": story.prompt + PROMPT_END, "completion": story.response} for story in islice(stories, count)]
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main(table: Path, tokenizer: str) -> None:
    require_bf16()
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        corpus = Corpus.collect(table, tokenizer, Path(scratch))
        write_stories(corpus.store, Path(scratch) / "stories.jsonl")
        figures = compare(corpus, Others(stories=Path(scratch) / "stories.jsonl", tokenizer=tokenizer))
        figures += [*growth(corpus), *memory_by_block(corpus, ROOT / "docs" / "bench-train.svg")]
    about = {"model": f"GPT-2, {PARAMETERS:,} random parameters, no dropout; bf16 with fp32 master weights",
             "global batch": f"{ROWS} rows of {BLOCK:,} tokens", "rounds": str(ROUNDS)}  # fmt: skip
    record("train", figures, ["torch", "transformers", "trl", "deepspeed", "pytorch-lightning"], about, PLOT)


if __name__ == "__main__":
    shared = ROOT.parent / "shared" / "data"
    paths = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])

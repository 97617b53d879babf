"""`make bench-gpu`: how fast and in how much of a GPU's memory rfr trains, beside TRL and a plain Hugging Face loop; and gpt2-xl
in fp16 with ZeRO, its optimizer on the GPU and in main memory.

`python -m bench.gpu [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is. All in one process, where
CUDA starts once.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import Callback
from transformers import AutoTokenizer

from bench.lib.baselines import Steps, loop, trl
from bench.lib.report import ROOT, Figure, record
from bench.lib.train_costs import BLOCK, Corpus
from bench.train import PARAMETERS, write_stories
from rfr import config
from rfr.commands.plan import phases_of, setup_of, totals
from rfr.strategy.memory import CUDA_CONTEXT
from rfr.train.build import build
from rfr.train.flops import peak_flops, training_flops_per_token
from rfr.train.recipe import Recipe
from rfr.train.run import fit
from rfr.utils.malloc import GIB

ROWS, STEPS, WARM_UP = 16, 25, 5  # of GPT-2's: rows at once; optimizer steps, the first of them not timed
STORIES = 2000
OURS = {
    "rfr": ["precision=bf16_pure", "optimizer=split_adamw"],
    "rfr_bf16": ["precision=bf16", "optimizer=adamw"],
    "rfr_fp16": ["precision=fp16", "optimizer=adamw"],
    "rfr_compiled": ["precision=bf16", "optimizer=adamw", "model.compile=true"],
    "rfr_zero2_fp16": ["precision=fp16", "optimizer=adamw", "strategy=deepspeed_2"],
}
TRL = {
    "trl_default": {"gradient_accumulation_steps": 2},  # 8 rows at once, as it comes
    "trl_best": {"per_device_train_batch_size": ROWS, "gradient_checkpointing": False},
}
XL_ROWS, XL_STEPS = 8, 4
XL = {
    "zero2": ["strategy=deepspeed_2", "optimizer=adamw"],
    "offload": ["strategy=deepspeed_offload", "optimizer=cpu_adam"],
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Useful tokens per second once it is warm, and the most that its tensors took of the GPU."""

    tokens_per_second: float
    gib: float


class _Clock(Callback):
    """When each step was done, and its tokens."""

    def __init__(self) -> None:
        self.steps: Steps = []
        self._since = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._since = self._since or time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, _: Any, batch: Any, __: int) -> None:
        tokens = int((batch.documents_BT > 0).sum())
        torch.cuda.synchronize()
        now = time.perf_counter()
        self.steps.append({"seconds": now - self._since, "tokens": tokens})
        self._since = now


def measured(name: str, steps: Callable[[], Steps], warm_up: int) -> Run:
    """What a training does, told at once."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()  # of what an earlier one didn't let go
    timed = steps()[warm_up:]
    gib = (torch.cuda.max_memory_allocated() - before) / GIB
    run = Run(tokens_per_second=sum(step["tokens"] for step in timed) / sum(step["seconds"] for step in timed), gib=gib)
    print(f"{name}: {run.tokens_per_second:,.0f} tokens/s, {run.gib:.2f} GiB", flush=True)
    return run


def train(corpus: Corpus, settings: list[str]) -> Steps:
    """With rfr, in this process; nothing is validated or saved."""
    cfg = _config(corpus, settings)
    clock = _Clock()
    fit(build(Recipe.of(cfg), corpus.folder / "run"), [clock], persist=False)
    return clock.steps


def _config(corpus: Corpus, settings: list[str]) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return config.resolve(compose("train", [*corpus.overrides("gpu"), "trainer.accumulate=1", *settings]))


def gpt2(corpus: Corpus, stories: list[dict[str, str]]) -> list[Figure]:
    """Speed and memory of GPT-2, all in turn."""
    tokenizer = AutoTokenizer.from_pretrained(corpus.tokenizer)
    sizes = [f"trainer.micro_batch={ROWS}", f"trainer.max_steps={STEPS}"]
    others = {name: partial(trl, stories, tokenizer, STEPS, settings) for name, settings in TRL.items()}
    others["hf"] = partial(loop, stories, tokenizer, STEPS, {"micro_batch": ROWS, "accumulate": 1})
    runs = {name: measured(name, steps, WARM_UP - 1) for name, steps in others.items()}  # they leave out their first step
    runs |= {name: measured(name, partial(train, corpus, [*sizes, *settings]), WARM_UP) for name, settings in OURS.items()}
    what = {name: " ".join(settings) for name, settings in OURS.items()} | {
        "trl_default": "TRL's SFTTrainer, packed, 8 rows at once, else as it comes",
        "trl_best": f"TRL's SFTTrainer, packed, {ROWS} rows at once, no activation checkpointing",
        "hf": f"a plain Hugging Face loop, autocast, {ROWS} rows at once, documents not isolated",
    }
    flops = training_flops_per_token(PARAMETERS) / peak_flops(torch.device("cuda"), torch.bfloat16)
    speed = {name: run.tokens_per_second for name, run in runs.items()}
    best = max(speed[name] for name in OURS)
    return [
        *(Figure(name=f"tok_s_{name}", value=speed[name], target="", meaning=f"tokens/s, {what[name]}") for name in runs),
        *(Figure(name=f"gib_{name}", value=run.gib, target="", meaning="GPU memory at most") for name, run in runs.items()),
        *(Figure(name=f"rfr_vs_{name}", value=best / speed[name], target="", meaning="speed of our fastest") for name in others),
        Figure(name="mfu", value=best * flops, target="", meaning="its share of the GPU's peak, by the maker's data sheet"),
    ]  # fmt: skip


def gpt2_xl(corpus: Corpus, name: str, settings: list[str]) -> list[Figure]:
    """Speed and memory of gpt2-xl in fp16 with activation checkpointing, and what the plan says of it."""
    sizes = ["model=gpt2-xl", "precision=fp16", f"trainer.micro_batch={XL_ROWS}", f"trainer.max_steps={XL_STEPS}"]
    planned = totals(phases_of(setup_of(Recipe.of(_config(corpus, [*sizes, *settings])))))["device"] - CUDA_CONTEXT
    run = measured(f"xl_{name}", partial(train, corpus, [*sizes, *settings]), 1)
    settings_text = " ".join(settings)
    return [
        Figure(name=f"xl_{name}_tok_s", value=run.tokens_per_second, target="", meaning=f"tokens/s, {settings_text}"),
        Figure(name=f"xl_{name}_gib", value=run.gib, target="", meaning="GPU memory at most"),
        Figure(name=f"xl_{name}_planned_vs_measured", value=planned / GIB / run.gib, target="", meaning="by plan=, over it"),
    ]


def main(table: Path, tokenizer: str) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA GPU")
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        corpus = Corpus.collect(table, tokenizer, Path(scratch))
        write_stories(corpus.store, Path(scratch) / "stories.jsonl", STORIES)
        stories = [json.loads(line) for line in (Path(scratch) / "stories.jsonl").read_text().splitlines()]
        figures = gpt2(corpus, stories)
        for name, settings in XL.items():
            figures += gpt2_xl(corpus, name, settings)
    torch.distributed.destroy_process_group()  # no sooner: DeepSpeed keeps to the first that it sees
    about = {
        "GPU": torch.cuda.get_device_name(),
        "GPT-2": f"{PARAMETERS:,} random parameters, {ROWS} rows of {BLOCK:,} tokens in a step, no dropout",
        "gpt2-xl": f"random parameters, fp16, activation checkpointing, {XL_ROWS} rows of {BLOCK:,} tokens in a step",
    }
    record("gpu", figures, ["torch", "transformers", "trl", "deepspeed", "pytorch-lightning"], about)


if __name__ == "__main__":
    shared = ROOT.parent / "shared" / "data"
    paths = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])

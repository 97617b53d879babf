"""`make bench-plan`: what `plan=true` says of this machine beside what runs took, and the table of models, strategies and GPUs.

`python -m bench.plan [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir

from bench.lib.report import ROOT, Figure, record, require_bf16
from bench.lib.train_costs import Corpus, train
from rfr import config
from rfr.commands.plan import GPUS, Phases, capacity, fit, phases_of, setup_of, totals
from rfr.strategy.memory import MemorySetup
from rfr.train.recipe import Recipe
from rfr.utils.malloc import GIB

AUTOCAST = ["precision=bf16", "optimizer=adamw"]
PURE = ["precision=bf16_pure", "optimizer=stochastic_adamw"]
MODELS = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
COMPARED = [
    *((model, ["strategy=single", *(PURE if model == "gpt2-xl" else AUTOCAST)]) for model in MODELS),
    ("gpt2-large", ["strategy=deepspeed_2", *AUTOCAST]),
    ("gpt2-medium", ["strategy=deepspeed_3", *AUTOCAST]),
    ("gpt2-medium", ["strategy=deepspeed_offload", "precision=bf16", "optimizer=cpu_adam"]),
]
STRATEGIES = {
    "single": ["strategy=single"], "single, bf16_pure": ["strategy=single", *PURE], "deepspeed_1": ["strategy=deepspeed_1"],
    "deepspeed_2": ["strategy=deepspeed_2"], "deepspeed_3": ["strategy=deepspeed_3"],
    "deepspeed_offload": ["strategy=deepspeed_offload"], "deepspeed_offload_all": ["strategy=deepspeed_offload_all"],
    "deepspeed_nvme": ["strategy=deepspeed_nvme"],
}  # fmt: skip
RUN = ["trainer.max_steps=2", "trainer.micro_batch=1", "trainer.accumulate=2"]


def compared(corpus: Corpus, model: str, settings: list[str]) -> list[Figure]:
    """The plan of a run beside its peak memory."""
    overrides = [f"model={model}", *RUN, *settings]
    done = subprocess.run(
        [*corpus.command("planned", overrides), "plan=true"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    planned = json.loads(done.stdout.splitlines()[-1])["device_gib"]
    measured = train(corpus, model, overrides).peak_gib
    print(f"{model} {' '.join(settings)}: planned {planned:.2f} GiB, took {measured:.2f} GiB", flush=True)
    strategy = settings[0].partition("=")[2]
    name = "_".join([model.replace("-", "_"), *([strategy] if strategy != "single" else [])])
    return [
        Figure(name=f"{name}_planned_gib", value=planned, target="", meaning=" ".join(settings)),
        Figure(name=f"{name}_measured_gib", value=measured, target="", meaning="peak memory of all its processes"),
        Figure(name=f"{name}_planned_vs_measured", value=planned / measured, target="0.9 to 1.1", meaning="one over the other"),
    ]


def table(target: Path) -> None:
    """Models and strategies against GPUs and this machine: GiB of the device, and whether it fits."""
    cards = [*GPUS, None]
    heads = ["model", "strategy", *(gpu or "this machine" for gpu in cards)]
    lines = ["# What a run needs of memory", "", EXPLANATION, "", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for model in MODELS:
        for strategy, overrides in STRATEGIES.items():
            on_gpu, here = _setup(model, overrides, gpu=True), _setup(model, overrides, gpu=False)
            needed = {True: phases_of(on_gpu), False: phases_of(here)}
            cells = [_cell(needed[gpu is not None], gpu) for gpu in cards]
            lines.append(f"| {model} | {strategy} | {' | '.join(cells)} |")
    target.write_text("\n".join(lines) + "\n")


EXPLANATION = (
    "Written by `make bench-plan`, not by hand: what `plan=` says. GiB of the device for one rank with a row of 1,024 tokens "
    "(`trainer.micro_batch=1`), in **bold** where it fits; fp16 on the GPUs, bf16 on this machine; activation checkpointing as "
    "the model's config has it (from gpt2-medium on). Offloading needs main memory or disk beside it, which `plan=` tells. The "
    "figures for GPUs are worked out, not measured."
)


def _setup(model: str, overrides: list[str], *, gpu: bool) -> MemorySetup:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = config.resolve_run(compose("train", [f"model={model}", "trainer.micro_batch=1", *overrides]))
    setup = setup_of(Recipe.of(cfg), next(iter(GPUS)) if gpu else None)
    if gpu:
        return replace(setup, precision="fp16") if setup.precision == "auto" else setup
    return replace(setup, precision="bf16") if setup.precision == "fp32" else setup  # where no processor is quick at bf16


def _cell(needed: Phases, gpu: str | None) -> str:
    shown = f"{totals(needed)['device'] / GIB:.1f}"
    return f"**{shown}**" if fit(needed, capacity(gpu)) else shown


def main(stories: Path, tokenizer: str) -> None:
    require_bf16()
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        corpus = Corpus.collect(stories, tokenizer, Path(scratch))
        figures = [figure for model, settings in COMPARED for figure in compared(corpus, model, settings)]
    table(ROOT / "docs" / "memory.md")
    record("plan", figures, ["torch", "transformers", "pytorch-lightning"], {"block": "1,024, one row at a time"})


if __name__ == "__main__":
    shared = ROOT.parent / "shared" / "data"
    paths = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])

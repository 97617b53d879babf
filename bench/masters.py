"""`make bench-masters`: fifty steps of GPT-2 with fp32 masters, split ones, and bf16 ones rounded at random or to the nearest.

`python -m bench.masters [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.lib.report import ROOT, Figure, record, require_bf16
from bench.lib.train_costs import Corpus

STEPS, LAST = 50, 10
KINDS = {
    "fp32": ["precision=bf16", "optimizer=adamw"], "split": ["precision=bf16_pure", "optimizer=split_adamw"],
    "stochastic": ["precision=bf16_pure", "optimizer=stochastic_adamw"], "nearest": ["precision=bf16_pure", "optimizer=adamw"],
}  # fmt: skip
MEANINGS = {
    "fp32": "parameters in fp32, products in bf16", "split": "bf16 parameters, split fp32 masters",
    "stochastic": "bf16 parameters and moments, rounded at random",
    "nearest": "bf16 parameters and moments, rounded to the nearest",
}  # fmt: skip
RUN = [f"trainer.max_steps={STEPS}", "trainer.micro_batch=1", "trainer.accumulate=1", "schedule=constant",
       "schedule.warmup_steps=10", "trainer.keep_best=false"]  # fmt: skip


def curve(corpus: Corpus, kind: str) -> list[float]:
    """The training loss per token of every step; the same rows in the same order for all."""
    subprocess.run(corpus.command(kind, [*RUN, *KINDS[kind]]), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with (corpus.folder / "runs" / kind / "metrics.csv").open() as lines:
        return [float(row["train/loss"]) for row in csv.DictReader(lines) if row["train/loss"]]


def _draw(curves: dict[str, list[float]], plot: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rfr"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for kind, losses in curves.items():
        axes.plot(range(1, len(losses) + 1), losses, label=MEANINGS[kind], linewidth=1.2)
    axes.set(xlabel="optimizer step", ylabel="loss per token", title="GPT-2 124 M from random weights, the same rows")
    axes.legend(fontsize=8)
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(plot, metadata={"Date": None})


def main(stories: Path, tokenizer: str) -> None:
    require_bf16()
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        corpus = Corpus.collect(stories, tokenizer, Path(scratch))
        curves = {kind: curve(corpus, kind) for kind in KINDS}
    _draw(curves, ROOT / "docs" / "bench-masters.svg")
    ends = {kind: sum(losses[-LAST:]) / LAST for kind, losses in curves.items()}
    apart = {kind: max(abs(a - b) for a, b in zip(losses, curves["fp32"], strict=True)) for kind, losses in curves.items()}
    ending, apart_by = f"mean loss of the last {LAST} of {STEPS} steps", "largest distance of a step's loss from fp32 masters'"
    figures = [Figure(name=f"loss_{k}", value=ends[k], target="", meaning=f"{ending}; {MEANINGS[k]}") for k in KINDS]
    figures += [Figure(name=f"largest_gap_{k}", value=apart[k], target="", meaning=apart_by) for k in KINDS if k != "fp32"]
    record(
        "masters",
        figures,
        ["torch", "transformers", "pytorch-lightning"],
        {"steps": "1,024 tokens each"},
        "losses of fifty steps",
    )


if __name__ == "__main__":
    shared = ROOT.parent / "shared" / "data"
    paths = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])

"""rfr's own training runs for `make bench`: speed, growth of cost with tokens, and of memory with the block."""

from __future__ import annotations

import csv
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.lib.peak_memory import Watched
from bench.lib.report import ROOT, Figure

RFR = str(ROOT / ".venv" / "bin" / "python")  # as it is installed, without what it is compared with
BLOCK = 1024
TIMES = (1, 2, 4)  # as many tokens in a step
BLOCKS = (256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a training run was seen to do, its first optimizer step left out."""

    tokens_per_second: float
    step_seconds: float
    peak_gib: float


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A store of real stories, and the settings of all runs of rfr on it."""

    SETTINGS: ClassVar[tuple[str, ...]] = (
        "model=gpt2", "model.weights=random", "strategy=single", "precision=bf16_pure", "optimizer=split_adamw",
        "schedule=cosine", "schedule.warmup_steps=1",
        "trainer.validate_every=1000", "trainer.validation_rows=1", "samples.prompts=0", "logger=csv",
    )  # fmt: skip

    store: Path
    tokenizer: str
    folder: Path

    @classmethod
    def collect(cls, table: Path, tokenizer: str, folder: Path) -> Corpus:
        """From a table of stories, with rfr's own command."""
        store = folder / "stories.db"
        collect = ["collect.py", "source=table", f"source.path={table}", f"store={store}"]
        subprocess.run([RFR, *collect], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return cls(store=store, tokenizer=tokenizer, folder=folder)

    def overrides(self, name: str) -> list[str]:
        where = [f"corpus.path={self.store}", f"model.tokenizer={self.tokenizer}", f"data_dir={self.folder}",
                 f"runs_dir={self.folder / 'runs'}", f"name={name}"]  # fmt: skip
        return [*self.SETTINGS, *where]

    def command(self, name: str, settings: list[str]) -> list[str]:
        return [RFR, "train.py", *self.overrides(name), *settings]


def train(corpus: Corpus, name: str, settings: list[str]) -> Run:
    """`train.py` as a user starts it; speed from its metrics.csv, memory from outside."""
    child = Watched(corpus.command(name, settings), cwd=ROOT, stdout=subprocess.DEVNULL)
    if child.wait() != 0:
        raise SystemExit(f"rfr failed: {' '.join(settings)}")
    run_dir = corpus.folder / "runs" / name
    with (run_dir / "metrics.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["step_seconds"]]
    seconds = [float(row["step_seconds"]) for row in rows]
    tokens = [float(row["tokens"]) for row in rows]
    shutil.rmtree(run_dir)
    timed = sum(seconds[1:])
    return Run(tokens_per_second=(tokens[-1] - tokens[0]) / timed, step_seconds=timed / (len(rows) - 1), peak_gib=child.peak_gib)


def growth(corpus: Corpus) -> list[Figure]:
    """Seconds of a step of one, two and four rows at once."""
    whole = ["trainer.max_steps=4", "trainer.accumulate=1"]
    runs = {times: train(corpus, f"times-{times}", [*whole, f"trainer.micro_batch={times}"]) for times in TIMES}
    return [
        Figure(name=f"step_s_{times}x", value=run.step_seconds, target="",
               meaning=f"seconds of an optimizer step of {times * BLOCK:,} tokens, {times} rows at once; {run.peak_gib:.2f} GiB")
        for times, run in runs.items()
    ]  # fmt: skip


def memory_by_block(corpus: Corpus, plot: Path) -> list[Figure]:
    """Peak memory over the block's size, one row at a time; drawn, too."""
    peaks = {}
    for block in BLOCKS:
        sizes = [f"model.block_size={block}", "trainer.micro_batch=1", "trainer.accumulate=2", "trainer.max_steps=2"]
        peaks[block] = train(corpus, f"block-{block}", sizes).peak_gib
    _draw(peaks, plot)
    return [
        Figure(name=f"rss_gib_block_{block}", value=peak, target="", meaning=f"peak memory at block {block:,}, one row at a time")
        for block, peak in peaks.items()
    ]


def _draw(peaks: dict[int, float], plot: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rfr"  # or every drawing of the same figures is another file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    axes.plot(list(peaks), list(peaks.values()), marker="o")
    axes.set(xlabel="block size (tokens)", ylabel="peak memory (GiB)", xticks=list(peaks), ylim=(0, 1.1 * max(peaks.values())),
             title="GPT-2 124 M, one row at a time")  # fmt: skip
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(plot, metadata={"Date": None})

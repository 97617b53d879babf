"""`make bench-xl`: gpt2-xl takes real steps on a machine that should not hold it, is killed, resumes, exports, and writes.

`python -m bench.xl [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.lib.peak_memory import Watched
from bench.lib.report import ROOT, Figure, record, require_bf16

STEPS, SAVED_AT = 3, 2
MODES = {
    "ram": ["strategy=single", "precision=bf16_pure", "optimizer=stochastic_adamw"],
    "offload": ["strategy=deepspeed_nvme", "precision=bf16", "optimizer=cpu_adam"],
}
LIMITS = {"ram": 20, "offload": 14}
MEANINGS = {
    "ram": "parameters, gradients and Adam's moments in bf16 in memory, stochastic rounding",
    "offload": "fp32 master weights and Adam states on disk",
}
COMMON = [
    "model=gpt2-xl", "schedule=cosine", "model.weights=random", "model.block_size=1024", "schedule.warmup_steps=1",
    f"trainer.max_steps={STEPS}", "trainer.micro_batch=1", "trainer.accumulate=1", f"trainer.checkpoint_every={SAVED_AT}",
    f"trainer.validate_every={STEPS}", "trainer.validation_rows=1", "trainer.keep_checkpoints=1", "samples.prompts=0",
    "logger=csv",
]  # fmt: skip


def measure(mode: str, where: list[str], runs: Path) -> list[Figure]:
    """Start, kill within the step after the checkpoint, resume, export, generate."""
    run_dir = runs / mode
    saved = run_dir / "checkpoints" / f"step-{SAVED_AT:08d}"
    train = [sys.executable, "train.py", *COMMON, *MODES[mode], *where, f"runs_dir={runs}", f"name={mode}"]
    first = _until(train, saved.exists)
    second = Watched([sys.executable, "train.py", f"resume={run_dir}"], cwd=ROOT)
    if second.wait() != 0:
        raise SystemExit(f"{mode}: the resumed run failed")
    with (run_dir / "metrics.csv").open() as lines:
        seconds = [float(row["step_seconds"]) for row in csv.DictReader(lines) if row["step_seconds"]]
    story = [
        sys.executable,
        "generate.py",
        f"model.weights={run_dir / 'model'}",
        "prompt=[WP] A door.",
        "sampling.max_new_tokens=8",
    ]
    subprocess.run(story, cwd=ROOT, check=True)
    shutil.rmtree(run_dir)
    return [
        Figure(name=f"{mode}_peak_rss_gib", value=max(first, second.peak_gib), target=f"<= {LIMITS[mode]}",
               meaning=f"{MEANINGS[mode]}; all processes, from the start over kill and resume to the exported model"),
        Figure(name=f"{mode}_step_s", value=median(seconds), target="",
               meaning=f"seconds of an optimizer step of one row of 1,024 tokens, the median of {len(seconds)}"),
    ]  # fmt: skip


def _until(command: list[str], there: Callable[[], bool]) -> float:
    """Run a command until something is there, and a little longer, and kill it; its peak memory in GiB."""
    run = Watched(command, cwd=ROOT)
    while not there():
        if run.process.poll() is not None:
            raise SystemExit(f"the run ended by itself: {' '.join(command)}")
        time.sleep(1)
    time.sleep(10)
    os.killpg(run.process.pid, signal.SIGKILL)
    run.wait()
    return run.peak_gib


def main(table: Path, tokenizer: str) -> None:
    require_bf16()
    with tempfile.TemporaryDirectory(prefix="rfr-xl-", dir=ROOT) as scratch:
        folder = Path(scratch)
        collect = ["collect.py", "source=table", f"source.path={table}", f"store={folder / 'stories.db'}"]
        subprocess.run([sys.executable, *collect], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        where = [f"model.tokenizer={tokenizer}", f"corpus.path={folder / 'stories.db'}", f"data_dir={folder}"]
        figures = [figure for mode in MODES for figure in measure(mode, where, folder / "runs")]
    record("xl", figures, ["torch", "deepspeed", "pytorch-lightning"], {"model": "gpt2-xl, 1.56 B parameters, random weights"})


if __name__ == "__main__":
    shared = ROOT.parent / "shared" / "data"
    paths = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])

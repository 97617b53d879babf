"""`make bench-clock`: the speed that a run tells, with a validation before its first step and without.

`python -m bench.clock [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.lib.report import ROOT, Figure, record
from bench.lib.train_costs import Corpus

PAIRS = 5
# Training takes some ten seconds and validation several: a clock that counted it would tell a quarter less. In shorter runs the
# kernels that oneDNN compiles for new lengths of documents count, and a validation before the first step has compiled some.
RUN = ["precision=fp32", "optimizer=adamw", "model.random.n_layer=2", "model.random.n_embd=128", "model.random.n_head=2",
       "model.block_size=256", "trainer.max_steps=60", "trainer.micro_batch=2", "trainer.accumulate=2",
       "trainer.validation_rows=200"]  # fmt: skip


def speed_of_run(corpus: Corpus, name: str, validate_first: bool) -> float:
    """Train; tokens per second, as result.json has them."""
    command = corpus.command(name, [*RUN, f"trainer.validate_first={validate_first}"])
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    run_dir = corpus.folder / "runs" / name
    tokens_per_second = float(json.loads((run_dir / "result.json").read_text())["tokens_per_second"])
    shutil.rmtree(run_dir)
    return tokens_per_second


def main(table: Path, tokenizer: str) -> None:
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        corpus = Corpus.collect(table, tokenizer, Path(scratch))
        speed_of_run(corpus, "warm", False)  # not measured: this run prepares the corpus for all others
        stories = [
            (speed_of_run(corpus, f"off-{number}", False), speed_of_run(corpus, f"on-{number}", True)) for number in range(PAIRS)
        ]
    off, on = (median(column) for column in zip(*stories, strict=True))
    figures = [
        Figure(name="tokens_per_second_off", value=off, target="", meaning="as result.json tells it, without the validation"),
        Figure(name="tokens_per_second_on", value=on, target="", meaning="with trainer.validate_first=true"),
        Figure(name="on_vs_off", value=on / off, target="0.9 to 1.1", meaning=f"medians of {PAIRS} runs of each, in turn"),
    ]
    record("clock", figures, ["torch", "pytorch-lightning"], {"run": " ".join(RUN)})


if __name__ == "__main__":
    shared = ROOT.parent / "shared" / "data"
    paths = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])

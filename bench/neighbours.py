"""`make bench-neighbours`: how fast a tiny run trains beside another one, or beside a preparation.

`python -m bench.neighbours`. What is measured is kept in runs/bench-neighbours; started again, it goes on.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import mean, median

from bench.lib.report import ROOT, Figure, record
from rfr.utils.files import write_atomically
from rfr.utils.openmp import SPINS

FOLDER = ROOT / "runs" / "bench-neighbours"
ROUNDS = 7
RUN = ["model=tiny", "corpus=demo", "strategy=single", "precision=fp32", "logger=csv", "trainer.max_steps=160",
       "trainer.validate_every=160", "trainer.validation_rows=8", "samples.prompts=0", "trainer.keep_best=false"]  # fmt: skip
# As it was before: OpenMP's own number of threads, and its own spinning.
CORES = len(os.sched_getaffinity(0))
BEFORE, SPINNING = [f"threads={CORES}"], {"GOMP_SPINCOUNT": "300000"}
Speeds = dict[str, float]


def start(name: str, *more: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    shutil.rmtree(FOLDER / name, ignore_errors=True)  # of a round that was interrupted
    command = [sys.executable, "train.py", *RUN, f"runs_dir={FOLDER}", f"data_dir={FOLDER / 'data'}", f"name={name}", *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})


def speed(name: str, running: subprocess.Popen[bytes]) -> float:
    """Wait for a run; tokens per second, as result.json has them."""
    if running.wait():
        raise SystemExit(f"the run {name} failed")
    return float(json.loads((FOLDER / name / "result.json").read_text())["tokens_per_second"])


def losses(name: str) -> list[str]:
    with (FOLDER / name / "metrics.csv").open() as lines:
        return [row["train/loss"] for row in csv.DictReader(lines)]


@contextmanager
def preparation() -> Iterator[None]:
    """A process that prepares the corpus again and again, until it is stopped."""
    code = (
        "import shutil, sys\n"
        "from tests.helpers.runs import small_config\n"
        "from rfr.train.recipe import Recipe\n"
        "from rfr.train.build import prepare\n"
        "while True:\n"
        "    shutil.rmtree(sys.argv[1] + '/cache', ignore_errors=True)\n"
        "    folders = ['data_dir=' + sys.argv[1], 'runs_dir=' + sys.argv[1]]\n"
        "    prepare(Recipe.of(small_config(folders, 'prepared', 'corpus.demo.threads=480')))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code, str(FOLDER / "prepared")], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield
        if running.poll() is not None:
            raise SystemExit("the preparation ended by itself")
    finally:
        running.kill()
        running.wait()


def measured(number: int) -> Speeds:
    """One round: a run alone, as it was before, beside another one, and beside a preparation."""
    alone = speed("alone", start("alone"))
    before = speed("before", start("before", *BEFORE, environment=SPINNING))
    pair = {name: start(name) for name in ("one", "other")}
    beside = mean(speed(name, running) for name, running in pair.items())
    with preparation():
        prepared = speed("busy", start("busy"))
    same = losses("alone") == losses("one") == losses("other") == losses("busy") and len(losses("alone")) == 160
    for name in ("alone", "before", "one", "other", "busy"):
        shutil.rmtree(FOLDER / name)
    speeds = {"alone": alone, "before": before, "beside": beside, "prepared": prepared, "same": float(same)}
    print(f"round {number}: {speeds}", flush=True)
    return speeds


def kept(path: Path, compute: Callable[[], Speeds]) -> Speeds:
    """Computed once."""
    if not path.exists():
        write_atomically(path, json.dumps(compute()))
    speeds: Speeds = json.loads(path.read_text())
    return speeds


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "data" / "cache").is_dir():
        speed("warm", start("warm"))  # not measured: this run prepares the corpus for all others
        shutil.rmtree(FOLDER / "warm")
    rounds = [kept(FOLDER / f"round-{number}.json", partial(measured, number)) for number in range(ROUNDS)]
    of = {key: [one[key] for one in rounds] for key in rounds[0]}
    ratios = {
        key: median(one / other for one, other in zip(of[key], of[against], strict=True))
        for key, against in (("beside", "alone"), ("prepared", "alone"), ("alone", "before"))
    }
    figures = [
        Figure(
            name="alone_tok_s", value=median(of["alone"]), target="", meaning="tokens a second of a tiny run, nothing beside it"
        ),
        Figure(name="beside_tok_s", value=median(of["beside"]), target="", meaning="of each of two such runs side by side"),
        Figure(name="beside_vs_alone", value=ratios["beside"], target=">= 0.6", meaning=f"median of {ROUNDS} rounds"),
        Figure(name="beside_preparation_vs_alone", value=ratios["prepared"], target=">= 0.6", meaning="beside a preparation"),
        Figure(name="before_tok_s", value=median(of["before"]), target="", meaning=f"{CORES} threads that spin, alone"),
        Figure(name="alone_vs_before", value=ratios["alone"], target=">= 0.82", meaning="what one thread gives up"),
        Figure(name="same_losses", value=min(of["same"]), target="1", meaning="1: equal to the bit, alone and beside others"),
    ]
    about = {"cores": str(CORES), "run": " ".join(RUN), "GOMP_SPINCOUNT": str(SPINS)}
    record("neighbours", figures, ["torch", "pytorch-lightning"], about)


if __name__ == "__main__":
    main()

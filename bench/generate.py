"""`make bench-generate`: how many useful tokens a second the sampler draws, beside transformers' `generate` at its best.

`python -m bench.generate`. What is measured is kept in runs/bench-generate; started again, it goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from bench.lib.generate_loads import LOADS, MOST_NEW, STORIES, TINY
from bench.lib.report import ROOT, Figure, record
from rfr.strategy.precision import native_precisions
from rfr.utils.files import write_atomically

FOLDER = ROOT / "runs" / "bench-generate"
SLOTS = {"smollm2": 128, "gpt2": 64, "tiny": 64}
BATCHES, CACHES = (16, 64, 256), ("dynamic", "static")
TRIAL_TOKENS = 24  # of the runs that choose generate's batch and cache
ROUNDS = {"smollm2": 1, "gpt2": 1, "tiny": 5}
TARGETS = {"smollm2": 2.5, "gpt2": 2.5, "tiny": 5.0}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not TINY.is_dir():
        small = ["model=tiny", "corpus=demo", f"runs_dir={TINY.parent.parent}", "name=tiny", "logger=csv"]
        subprocess.run([sys.executable, "train.py", *small], cwd=ROOT, check=True)
    figures = [figure for load in LOADS for figure in _compared(load)]
    nuclei = _measured("gpt2", "nuclei")["nuclei"]
    lengths, cut_off = (_rounds("gpt2", "rfr", slots=SLOTS["gpt2"])[0][key] for key in ("lengths", "cut_off"))
    judge = _measured("gpt2", "judge")
    figures += [
        Figure(
            name="judged_per_s",
            value=judge["judged"] / judge["seconds"],
            target="",
            meaning="stories that a judge of GPT-2's shape reads",
        ),
        Figure(name="median_nucleus_gpt2", value=int(median(nuclei)), target="100 to 400", meaning="tokens that top-p keeps"),
        Figure(name="median_length", value=int(median(lengths)), target="110 to 140", meaning="tokens of GPT-2's stories"),
        Figure(name="share_cut_off", value=cut_off / len(lengths), target="about 0.2", meaning="of them reach the limit"),
    ]
    about = {
        "stories": f"{STORIES}, at most {MOST_NEW} tokens, top-p 0.95, temperature 0.9", "precision": native_precisions()[0],
        "rfr": ", ".join(f"{slots} slots for {load}" for load, slots in SLOTS.items()),
        "generate": "the best of 16, 64 and 256 stories at once, dynamic and static cache, by trial",
    }  # fmt: skip
    record("generate", figures, ["torch", "transformers"], about)


def _compared(load: str) -> list[Figure]:
    batch, cache = _best_of_generate(load)
    ours = _rounds(load, "rfr", slots=SLOTS[load])
    theirs = _rounds(load, "generate", batch=batch, cache=cache)
    one, other = median(map(_speed, ours)), median(map(_speed, theirs))
    how = f"generate with {batch} at once, {cache} cache"
    figures = [
        Figure(name=f"tok_s_rfr_{load}", value=one, target="", meaning="useful tokens a second"),
        Figure(name=f"tok_s_hf_{load}", value=other, target="", meaning=how),
        Figure(name=f"rfr_vs_hf_{load}", value=one / other, target=f">= {TARGETS[load]}", meaning="their ratio"),
    ]
    if load == "gpt2":
        slots = SLOTS[load]
        limit = _measured(load, "passes", slots=slots, lengths=ours[0]["lengths"])
        tokens = sum(ours[0]["lengths"]) / limit["seconds"]
        # Memory of the same stories: what is allocated for keys and values goes by the longest of them.
        small = _measured(load, "rfr", slots=slots, stories=slots)
        same = _measured(load, "generate", batch=slots, cache="dynamic", stories=slots)
        figures += [
            Figure(name="tok_s_limit_gpt2", value=tokens, target="", meaning="the same forward passes with nothing else"),
            Figure(name="rfr_vs_limit_gpt2", value=one / tokens, target=">= 0.7", meaning="of that"),
            Figure(name="rss_gib_rfr", value=small["peak_gib"], target="<= rss_gib_hf", meaning=f"peak, {slots} stories at once"),
            Figure(name="rss_gib_hf", value=same["peak_gib"], target="", meaning=f"peak, {slots} stories at once"),
        ]
    return figures


def _best_of_generate(load: str) -> tuple[int, str]:
    """By trial: a batch's speed times the share of its steps that are of use, when stories have the lengths that rfr drew."""
    lengths = _rounds(load, "rfr", slots=SLOTS[load])[0]["lengths"]
    useful: dict[tuple[int, str], float] = {}
    for batch in BATCHES:
        batches = [lengths[begin : begin + batch] for begin in range(0, STORIES, batch)]
        share = mean(sum(one) / (len(one) * max(one)) for one in batches)
        for cache in CACHES:
            trial = _measured(load, "generate", batch=batch, cache=cache, stories=batch, most_new=TRIAL_TOKENS)
            useful[batch, cache] = share * _speed(trial)
    return max(useful, key=lambda way: useful[way])


def _speed(measured: dict[str, Any]) -> float:
    return sum(measured["lengths"]) / measured["seconds"]


def _rounds(load: str, engine: str, **settings: Any) -> Sequence[dict[str, Any]]:
    return [_measured(load, engine, number, **settings) for number in range(ROUNDS[load])]


def _measured(load: str, engine: str, number: int = 0, **settings: Any) -> dict[str, Any]:
    """In a process of its own, or what was measured before."""
    named = "-".join(str(value) for key, value in settings.items() if key != "lengths")
    path = FOLDER / f"{load}-{engine}-{named}-{number}.json"
    if not path.exists():
        asked = json.dumps({"load": load, "engine": engine, **settings})
        command = [sys.executable, "-m", "bench.lib.generate_loads", asked]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        write_atomically(path, done.stdout.splitlines()[-1])
        print(f"{path.stem}: {json.loads(path.read_text())['seconds']:.1f} s", flush=True)
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()

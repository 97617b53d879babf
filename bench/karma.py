"""`make bench-karma`: is real karma a reward? A reward model on same-thread pairs of real stories, then cloning against
reward-weighted regression, all from one pretrained model.

`python -m bench.karma [stories.jsonl.gz]`; it lies beside the clone where the real data is. What is finished is kept in
runs/bench-karma; started again, it goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from bench.record import ROOT, Figure, record

RUNS = ROOT / "runs" / "bench-karma"
COMMON = ["model=smollm2-135m", "model.block_size=512", "strategy=single", "logger=csv", "samples.prompts=0", "schedule=cosine",
          "schedule.warmup_steps=10", "trainer.micro_batch=1", "preprocess.split.validation_share=0.15"]  # fmt: skip
JUDGE = ["objective=reward_model", "reward=log_karma", "objective.pairing.margin=0.7", "optimizer.lr=3e-5",
         "trainer.accumulate=4", "trainer.max_steps=300", "trainer.validate_every=50", "trainer.validation_rows=60"]  # fmt: skip
POLICY = ["reward=thread_rank", "optimizer.lr=5e-5", "trainer.accumulate=8", "trainer.max_steps=50", "trainer.validate_every=50",
          "trainer.validation_rows=60"]  # fmt: skip
TRAINED = {
    "judge": JUDGE, "bc": ["objective=bc", *POLICY], "rwr": ["objective=rwr", "objective.weight.target_ess=0.3", *POLICY],
}  # fmt: skip
SHOWN = {
    "reward model": "the reward model", "log-likelihood": "rwr's likelihood", "log-likelihood of bc": "bc's likelihood",
    "log-likelihood without the prompt": "rwr's likelihood without the prompt", "length alone": "the longer one",
}  # fmt: skip
MINUTES = 120


def run(*arguments: str) -> None:
    """One of rfr's commands."""
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)


def train(stories: Path) -> float:
    """All that is not trained yet; the minutes that were spent, over all attempts that ended."""
    store, spent = RUNS / "stories.db", RUNS / "minutes.json"
    if not store.exists():
        run("collect.py", "source=table", f"source.path={stories}", f"store={store}")
    where = [f"corpus.path={store}", f"data_dir={RUNS / 'data'}", f"runs_dir={RUNS}"]
    minutes = json.loads(spent.read_text()) if spent.exists() else {}
    for name, settings in TRAINED.items():
        began = time.monotonic()
        if not (RUNS / name / "result.json").exists():
            known = (RUNS / name / "config.yaml").exists()
            run("train.py", *([f"resume={RUNS / name}"] if known else [*COMMON, *settings, *where, f"name={name}"]))
        minutes[name] = minutes.get(name, 0.0) + (time.monotonic() - began) / 60
        spent.write_text(json.dumps(minutes))
    if not (RUNS / "evaluation.json").exists():
        began = time.monotonic()
        run("evaluate.py", f"model.weights={RUNS / 'rwr' / 'model'}", f"against=[{RUNS / 'bc' / 'model'}]",
            f"judge={RUNS / 'judge' / 'model'}", f"out={RUNS}", "model.block_size=512", "precision=auto", "stories=0",
            "ranking.stories=0", "preprocess.split.validation_share=0.15", *where[:2])  # fmt: skip
        minutes["evaluation"] = (time.monotonic() - began) / 60
        spent.write_text(json.dumps(minutes))
    return sum(minutes.values())


def figures(evaluation: dict, minutes: float) -> list[Figure]:
    """Of the evaluation, what the question was."""
    found = []
    for row in evaluation["pair_accuracy"]:
        name = row["score"].replace(str(RUNS / "bc" / "model"), "bc")
        if name not in SHOWN or row["condition"] not in ("all", "length-matched"):
            continue
        key = f"{name.replace(' ', '_').replace('-', '_')}_{row['condition'].replace('-', '_')}_{row['ratio']}x"
        aim = ">= 0.65" if (name, row["condition"], row["ratio"]) == ("reward model", "length-matched", 5) else ""
        about = (
            f"pairs ranked as karma does, {row['condition']}, {row['pairs']:,} of {row['ratio']} times the karma: {SHOWN[name]}"
        )
        found += [Figure(name=key, value=row["accuracy"], target=aim, meaning=about),
                  Figure(name=f"{key}_low", value=row["low"], target="", meaning="lower end of its 95 % interval over threads"),
                  Figure(name=f"{key}_high", value=row["high"], target="", meaning="upper end")]  # fmt: skip
    beside = next(value for name, value in evaluation.items() if name.startswith("beside it"))
    for policy, of_policy in (("bc", beside), ("rwr", evaluation)):
        for end, value in of_policy["nll_by_karma"].items():
            about = f"held-out NLL per token of the {end.split('_')[0]} quarter of each thread by karma, {policy}"
            found.append(Figure(name=f"nll_{policy}_{end}", value=value, target="", meaning=about))
    return [*found, Figure(name="minutes", value=minutes, target=f"<= {MINUTES}", meaning="all of it, once")]


def main(stories: Path) -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    minutes = train(stories)
    evaluation = json.loads((RUNS / "evaluation.json").read_text())
    about = {"held out": f"{evaluation['threads']} threads, {evaluation['held_out_stories']} stories"}
    record("karma", figures(evaluation, minutes), ["torch", "transformers"], about)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data" / "writingprompts.jsonl.gz")

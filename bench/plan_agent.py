"""`make bench-plan-agent`: what `plan=true` says of an agent, phase by phase, beside the memory that a run of it took.

`python -m bench.plan_agent [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.lib.report import ROOT, Figure, record

SHARED = ROOT.parent / "shared" / "data"
COMMON = [
    "strategy=single", "precision=fp32", "optimizer=adamw", "schedule=constant", "schedule.warmup_steps=0", "logger=csv",
    "samples.prompts=0", "evaluation.stories=0", "trainer.validation_rows=1", "trainer.keep_best=false",
]  # fmt: skip
BRIEF = ["trainer.max_steps=1", "trainer.validate_every=1", "trainer.micro_batch=1", "trainer.accumulate=1"]
AGENT = [
    "objective=rwr", "rollouts=own", "rollouts.rounds=2", "rollouts.steps=2", "rollouts.stories=8",
    "rollouts.held_out.prompts=2", "rollouts.held_out.stories=2", "rollouts.shaping.standardise.stories=32",
]  # fmt: skip
MODELS = {  # GPT-2 with random weights, and as many stories as it has slots
    "tiny": ["corpus=demo", "model=tiny"],
    "gpt2": ["model=gpt2", "model.weights=random"],
}
SIZES = {
    "tiny": ["rollouts.prompts=128", "trainer.micro_batch=4"],
    "gpt2": ["rollouts.prompts=8", "trainer.micro_batch=1"],
}
PHASES = ("writing", "reading", "judging", "learning")


def compared(name: str, settings: list[str], folder: Path) -> list[Figure]:
    """The plan of an agent beside the most memory that its training process held."""
    where = [f"data_dir={folder / 'data'}", f"runs_dir={folder / 'runs'}", *settings, *COMMON]
    _train([*where, *BRIEF, "objective=bc", f"name={name}"])
    start = [f"{key}={folder / 'runs' / name / 'model'}" for key in ("model.weights", "model.tokenizer")]
    _train([*where, *BRIEF, *start, "objective=reward_model", "objective.pairing.group=2", f"name={name}-judge"])
    judge = f"judge={folder / 'runs' / f'{name}-judge' / 'model'}"
    agent = [*where, *start, *AGENT, judge, *SIZES[name], f"name={name}-agent"]
    planned = _train([*agent, "plan=true"])
    measured = _train(agent)["peak_rss_gib"]
    return [
        *(Figure(name=f"{name}_{phase}_gib", value=planned["phases"][phase]["device_gib"], target="", meaning="planned")
          for phase in PHASES),
        Figure(name=f"{name}_measured_gib", value=measured, target="", meaning="peak memory of the training"),
        Figure(name=f"{name}_planned_vs_measured", value=planned["device_gib"] / measured, target="0.9 to 1.1",
               meaning="the highest phase over it"),
    ]  # fmt: skip


def _train(settings: list[str]) -> dict:
    """The last line of the command, which is JSON."""
    done = subprocess.run([sys.executable, "train.py", *settings], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(stories: Path, tokenizer: str) -> None:
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        folder = Path(scratch)
        collect = ["collect.py", "source=table", f"source.path={stories}", f"store={folder / 'stories.db'}"]
        subprocess.run([sys.executable, *collect], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        real = [f"corpus.path={folder / 'stories.db'}", f"model.tokenizer={tokenizer}"]
        figures = [
            figure
            for name, settings in MODELS.items()
            for figure in compared(name, settings if name == "tiny" else [*settings, *real], folder)
        ]
    record("plan-agent", figures, ["torch", "transformers", "pytorch-lightning"], {"precision": "fp32"})


if __name__ == "__main__":
    paths = sys.argv[1:] or [str(SHARED / "writingprompts.jsonl.gz"), str(SHARED / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])

"""The runs of `make bench-chain`: for each seed a corpus, cloned and weighted policies, two judges, agents, and a report."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lib.minutes import Minutes
from bench.lib.report import ROOT
from rfr.rollouts.round_stories import RoundStories, load_round

CORES = 2  # runs beside one another, a thread each
# What tells one agent from another; all begin with the policy that rwr made of `reward=residual`, and are watched.
AGENTS = {
    "agent_rwr": ["objective=rwr"],
    "agent_raft": ["objective=filtered_bc"],
    "agent_dpo": ["objective=dpo", "optimizer.lr=2e-4"],
    "agent_rloo": ["objective=rloo", "rollouts.steps=8"],
    "random_twin": ["objective=rwr", "rollouts.selection=random"],
    "agent_truth": ["objective=rwr", "score=truth", "judge=null"],
}
LAST = ("random_twin",)  # judged after the last round: the watch judge would choose the round that does the least harm
TEMPERATURES = (0.8, 1.0)
BEST_OF = 16


@dataclass(frozen=True)
class Seed:
    """All runs of one seed, in a folder of their own."""

    folder: Path
    seed: int

    def run(self) -> None:
        """All that is not there yet."""
        demo = ["experiment=demo", "evaluation.stories=0"]
        with self.minutes.of("cloned and weighted"):
            self._train([["experiment=demo_start"]])
            self._train([[*demo, "objective=bc"], [*demo, "objective=rwr"],
                         [*demo, "objective=rwr", "reward=karma", "name=rwr-karma"]])  # fmt: skip
        with self.minutes.of("judges"):
            self._train([["experiment=demo_judge", f"preprocess.split.part=[{half},2]"] for half in (1, 2)])
        with self.minutes.of("agents"):
            self._train([["experiment=demo_agent", *settings, f"name={name}"] for name, settings in AGENTS.items()])
        with self.minutes.of("report"):
            self._report()

    @property
    def minutes(self) -> Minutes:
        """How long the parts took."""
        return Minutes(self.folder)

    @property
    def policies(self) -> dict[str, Path]:
        """Folders of the policies that are compared, by their names in `chain.json`."""
        chosen = {name: self.folder / "chain" / name / ("model" if name in LAST else "best") for name in AGENTS}
        demo = {name: self.folder / "demo" / run / "model" for name, run in
                (("bc", "bc"), ("rwr_karma", "rwr-karma"), ("rwr_residual", "rwr"))}  # fmt: skip
        return {**demo, **chosen}

    @property
    def start(self) -> Path:
        return self.policies["rwr_residual"]

    def report(self) -> dict[str, Any]:
        """The report's `chain.json`."""
        figures: dict[str, Any] = json.loads((self.folder / "report" / "chain.json").read_text())
        return figures

    def stories(self) -> dict[tuple[str, float], RoundStories]:
        """The stories of each policy, by its name and the temperature."""
        names = {str(path): name for name, path in self.policies.items()}
        files = sorted((self.folder / "report" / "stories").iterdir())
        rows = self.report()["policies"]
        return {
            (names.get(row["policy"], f"best_of_{BEST_OF}"), row["temperature"]): load_round(file)
            for row, file in zip(rows, files, strict=True)
        }

    def first_round(self) -> RoundStories:
        """Stories of the start policy, with the judge's score of each."""
        return load_round(self.folder / "chain" / "agent_rwr" / "rounds" / "learned-0001.parquet")

    def judge(self) -> dict[str, Any]:
        """The result of the judge that agents were trained against."""
        result: dict[str, Any] = json.loads((self.folder / "demo-judge" / "half-1" / "result.json").read_text())
        return result

    def _train(self, runs: Sequence[Sequence[str]]) -> None:
        """Each as a sweep of one, so that finished runs are skipped and interrupted ones go on; as many at once as fit."""
        common = [f"runs_dir={self.folder}", f"data_dir={self.folder}", f"corpus.demo.seed={self.seed}", f"seed={self.seed}"]
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(lambda settings: _call("train.py", "-m", *common, *settings), runs))

    def _report(self) -> None:
        if (self.folder / "report" / "chain.json").exists():
            return
        against = ",".join(map(str, self.policies.values()))
        _call(
            "evaluate.py", "report=chain", "corpus=demo", f"threads={CORES}",
            f"corpus.demo.seed={self.seed}", f"data_dir={self.folder}",
            f"model.weights={self.start}", f"against=[{against}]", f"judge={self.folder / 'demo-judge' / 'half-1' / 'model'}",
            f"gold={self.folder / 'demo-judge' / 'half-2' / 'model'}", f"report.best_of={BEST_OF}",
            f"report.temperatures={list(TEMPERATURES)}", f"report.sampling.seed={self.seed}", f"out={self.folder / 'report'}",
        )  # fmt: skip


def _call(command: str, *arguments: str) -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, command, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    told = [argument for argument in arguments if "seed" not in argument and "=/" not in argument]
    print(f"{' '.join([command, *told])}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)

"""`make bench-karma`: is real karma a reward? A reward model on same-thread pairs of real stories, then cloning against
reward-weighted regression, all from one pretrained model.

`python -m bench.karma [stories.jsonl.gz]`; it lies beside the clone where the real data is. What is finished is kept in
runs/bench-karma; stopped and started again, it goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.lib.minutes import Minutes
from bench.lib.real_stories import TABLE, imported, run, train
from bench.lib.report import ROOT, Figure, record
from rfr.evaluate.pair_accuracy import accuracies
from rfr.evaluate.reward_model_judge import RewardModelJudge
from rfr.model.reward_model import load_reward_model
from rfr.reward.confounders import words
from rfr.runs.folder import load
from rfr.strategy.precision import computing_in, resolve_precision
from rfr.train.build import prepare
from rfr.train.recipe import Recipe

RUNS = ROOT / "runs" / "bench-karma"
HELD_OUT = 0.15  # of the threads
OF_THESE = 0.05  # of the threads, a part of those held out: likelihoods of whole stories take long
BLOCK = 512
MARGIN = 0.78  # standard deviations of log karma, which are 2.06 here: five times the karma
COMMON = ["model=smollm2-135m", f"model.block_size={BLOCK}", "strategy=single", "logger=csv", "samples.prompts=0",
          "schedule=cosine", "schedule.warmup_steps=10", "trainer.micro_batch=1", "trainer.validation_rows=40",
          "trainer.keep_best=false", f"preprocess.split.validation_share={HELD_OUT}"]  # fmt: skip
JUDGE = ["objective=reward_model", "reward=log_karma", f"objective.pairing.margin={MARGIN}", "optimizer.lr=5e-5",
         "trainer.accumulate=4", "trainer.max_steps=400", "trainer.validate_every=200",
         "trainer.checkpoint_every=20"]  # fmt: skip
POLICY = ["reward=thread_rank", "optimizer.lr=5e-5", "trainer.accumulate=8", "trainer.max_steps=50", "trainer.validate_every=50",
          "trainer.checkpoint_every=10"]  # fmt: skip
TRAINED = {
    "judge": JUDGE, "bc": ["objective=bc", *POLICY], "rwr": ["objective=rwr", "objective.weight.target_ess=0.3", *POLICY],
}  # fmt: skip
SCORES = {
    "reward_model": "the reward model's score", "without_prompt": "the reward model's score of the story without its prompt",
    "length": "its words",
}  # fmt: skip
ENDS = {"low": "lower", "high": "upper"}
LOWER = "lower end of its 95 % interval over threads"
CONDITIONS = ("all", "length-matched")
MOST_MINUTES = 120
MINUTES = Minutes(RUNS)


def main(stories: Path) -> None:
    store = imported(stories, RUNS)
    where = [f"corpus.path={store}", f"data_dir={RUNS / 'data'}", f"runs_dir={RUNS}"]
    for name, settings in TRAINED.items():
        _once(RUNS / name / "result.json", lambda name=name, settings=settings: train(RUNS, name, [*COMMON, *settings, *where]))  # type: ignore[misc]
    _once(RUNS / "accuracies.json", _judge)
    _once(RUNS / "evaluation.json", lambda: _evaluate(where))
    record("karma", [*_of_pairs(), *_of_policies(), *_minutes()], ["torch", "transformers"], {"block": str(BLOCK)})


def _once(result: Path, work: Callable[[], None]) -> None:
    """Unless its result is there; how long it took is added up over all attempts."""
    if not result.exists():
        with MINUTES.of(result.relative_to(RUNS).parts[0]):
            work()


def _judge() -> None:
    """How often the reward model ranks two held-out replies as karma does."""
    cfg = load(RUNS / "judge")
    split = prepare(Recipe.of(cfg)).validation
    model, tokenizer = load_reward_model(str(RUNS / "judge" / "model"))
    pairs, judge = list(split.stories), RewardModelJudge(model, tokenizer)
    with computing_in(resolve_precision("auto"), model.device.type):
        scores = {
            "reward_model": judge([(pair.prompt, pair.response) for pair in pairs]),
            "without_prompt": judge([("", pair.response) for pair in pairs]), "length": words(pairs),
        }  # fmt: skip
    (RUNS / "accuracies.json").write_text(json.dumps(accuracies(pairs, scores)))


def _evaluate(where: list[str]) -> None:
    run("evaluate.py", f"model.weights={RUNS / 'rwr' / 'model'}", f"against=[{RUNS / 'bc' / 'model'}]", f"out={RUNS}",
         f"model.block_size={BLOCK}", "precision=auto", "stories=0", "ranking.stories=0", "micro_batch=4",
         f"preprocess.split.validation_share={OF_THESE}", *where)  # fmt: skip


def _of_pairs() -> list[Figure]:
    rows = json.loads((RUNS / "accuracies.json").read_text())
    return [
        figure for row in rows if row["condition"] in CONDITIONS for figure in _accuracy(row["score"], SCORES[row["score"]], row)
    ]


def _accuracy(name: str, by: str, row: dict[str, Any]) -> list[Figure]:
    key = f"{name}_{row['condition'].replace('-', '_')}_{row['ratio']}x"
    aim = ">= 0.65" if key == "reward_model_length_matched_5x" else ""
    about = f"of {row['pairs']:,} pairs, {row['condition']}, one with {row['ratio']} times the karma, ranked by {by}"
    return [Figure(name=key, value=row["accuracy"], target=aim, meaning=about),
            Figure(name=f"{key}_low", value=row["low"], target="", meaning=LOWER),
            Figure(name=f"{key}_high", value=row["high"], target="", meaning="upper end")]  # fmt: skip


def _of_policies() -> list[Figure]:
    evaluation = json.loads((RUNS / "evaluation.json").read_text())
    (other,) = evaluation["others"]
    figures = []
    for policy, of_policy in (("bc", other), ("rwr", evaluation)):
        for end, value in of_policy["nll_by_karma"].items():
            quarter, _, bound = end.partition("_")
            about = f"held-out NLL per token of each thread's {quarter} quarter by karma, {policy}"
            about = f"{ENDS[bound]} end of its 95 % interval over threads" if bound else about
            figures.append(Figure(name=f"nll_{policy}_{end}", value=value, target="", meaning=about))
    likelihoods = {"log-likelihood": "rwr", f"log-likelihood of {RUNS / 'bc' / 'model'}": "bc"}
    for row in evaluation["pair_accuracy"]:
        if row["score"] in likelihoods and row["condition"] in CONDITIONS:
            policy = likelihoods[row["score"]]
            figures += _accuracy(f"likelihood_{policy}", f"how likely {policy} finds it", row)
    return figures


def _minutes() -> list[Figure]:
    spent = MINUTES.spent()
    of_judge = spent.pop("judge") + spent.pop("accuracies.json")
    return [
        Figure(name="minutes_reward_model", value=of_judge, target=f"<= {MOST_MINUTES}", meaning="to train it and to rank pairs"),
        Figure(name="minutes_policies", value=sum(spent.values()), target="", meaning="to train bc and rwr and evaluate them"),
    ]


if __name__ == "__main__":
    RUNS.mkdir(parents=True, exist_ok=True)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE)

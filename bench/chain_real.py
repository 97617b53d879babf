"""`make bench-chain-real`: an agent on real stories, trained against one judge and compared under another.

`python -m bench.chain_real [stories.jsonl.gz]`; it lies beside the clone where the real data is. What is finished is kept in
runs/bench-chain-real; stopped and started again, it goes on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.lib.minutes import Minutes
from bench.lib.real_stories import TABLE, imported, run, train
from bench.lib.report import ROOT, Figure, record

RUNS = ROOT / "runs" / "bench-chain-real"
MINUTES, MOST_MINUTES = Minutes(RUNS), 300
# Real stories have some 900 tokens. Stories are beginnings here: so many tokens are drawn, and judges read prompts and stories
# as far as a block goes.
STORY_TOKENS, BLOCK = 256, 288
HELD_OUT = 0.15  # of the threads
PART = {"judge-a": 1, "judge-b": 2, "agent": 3}  # of three parts of the training threads
COMMON = [
    "model=smollm2-135m", f"model.block_size={BLOCK}", "strategy=single", "logger=csv", "samples.prompts=0", "reward=log_karma",
    "trainer.micro_batch=1", "trainer.validation_rows=40", "trainer.keep_best=false",
    f"preprocess.split.validation_share={HELD_OUT}",
]  # fmt: skip
CLONED = ["objective=bc", "optimizer.lr=5e-5", "schedule.warmup_steps=10", "trainer.accumulate=16", "trainer.max_steps=50",
          "trainer.validate_every=50", "trainer.checkpoint_every=10"]  # fmt: skip
JUDGE = ["objective=reward_model", "schedule.warmup_steps=10", "trainer.accumulate=4", "trainer.max_steps=240",
         "trainer.validate_every=40", "evaluation.stories=0"]  # fmt: skip
AGENT = [
    "objective=rwr", "rollouts=own", "schedule=constant", "schedule.warmup_steps=0", "rollouts.rounds=3", "rollouts.prompts=64",
    "rollouts.stories=4", "rollouts.steps=8", "rollouts.held_out.prompts=24", "rollouts.held_out.stories=2",
    "rollouts.shaping.cut_off.penalty=0", "rollouts.shaping.standardise.stories=128", "trainer.micro_batch=4",
    f"rollouts.sampling.max_new_tokens={STORY_TOKENS}",
]  # fmt: skip
BEST_OF, STORIES = 8, 2
ONE_MODEL = "A and B come from one pretrained model and one cloned policy, so they share errors that this page can't show."


def main(stories: Path) -> None:
    store = imported(stories, RUNS)
    where = [f"corpus.path={store}", f"data_dir={RUNS / 'data'}", f"runs_dir={RUNS}"]
    start = [f"model.weights={_model('bc')}", f"model.tokenizer={_model('bc')}"]
    _train("bc", [*COMMON, *CLONED, *where])
    for judge in ("judge-a", "judge-b"):
        _train(judge, [*COMMON, *start, *JUDGE, _part(judge), *where])
    judged = [f"judge={_model('judge-a')}", f"rollouts.watch={_model('judge-b')}"]
    _train("agent", [*COMMON, *start, *AGENT, *judged, _part("agent"), *where])
    if not (RUNS / "report" / "chain.json").exists():
        with MINUTES.of("report"):
            _report(where)
    record("chain-real", _figures(), ["torch", "transformers"], {
        "stories": f"{STORIES} on each held-out prompt at temperature 1 and top-p 1, at most {STORY_TOKENS} tokens",
        "judges": ONE_MODEL,
        "stories to read": "ten prompts with a story of each policy stand in runs/bench-chain-real/report/chain.html",
    })  # fmt: skip


def _part(run: str) -> str:
    return f"preprocess.split.part=[{PART[run]},{len(PART)}]"


def _model(run: str) -> Path:
    return RUNS / run / "model"


def _train(name: str, settings: list[str]) -> None:
    if (RUNS / name / "result.json").exists():
        return
    with MINUTES.of(name):
        train(RUNS, name, settings)


def _report(where: list[str]) -> None:
    # The policy of the last round: B, by which they are compared, does not choose it.
    run(
        "evaluate.py", "report=chain", f"model.weights={_model('bc')}", f"against=[{_model('bc')},{_model('agent')}]",
        f"judge={_model('judge-a')}", f"gold={_model('judge-b')}", f"report.best_of={BEST_OF}", f"report.stories={STORIES}",
        "report.temperatures=[1.0]", "report.shown_prompts=10", f"report.sampling.max_new_tokens={STORY_TOKENS}",
        f"preprocess.split.validation_share={HELD_OUT}", f"out={RUNS / 'report'}", *where[:2],
    )  # fmt: skip


def _figures() -> list[Figure]:
    report: dict[str, Any] = json.loads((RUNS / "report" / "chain.json").read_text())
    bc, best, agent = report["policies"]
    figures = []
    for name, row in ((f"best_of_{BEST_OF}", best), ("agent", agent)):
        for judge, measure in (("a", "score"), ("b", "watch")):
            figures += _of_gain(f"gain_{name}_over_bc_{judge}", row[f"{measure}_gain"], judge.upper())
    for name, row in (("bc", bc), (f"best_of_{BEST_OF}", best), ("agent", agent)):
        figures += [
            Figure(name=f"length_{name}", value=row["length"], target="", meaning="tokens a story"),
            Figure(name=f"cut_off_{name}", value=row["cut_off"], target="", meaning="share of stories that reach the limit"),
            Figure(name=f"distinct_3_{name}", value=row["distinct_3"], target="", meaning="different 3-grams of words, of all"),
        ]
    figures.append(Figure(name="kl_agent", value=agent["kl"], target="", meaning="from bc, nats a story (of beginnings)"))
    for judge in ("a", "b"):
        result = json.loads((RUNS / f"judge-{judge}" / "result.json").read_text())
        about = "on pairs of held-out threads that did not stop its training"
        figures.append(Figure(name=f"accuracy_{judge}", value=result["val/pair_accuracy"], target="", meaning=about))
    spent = MINUTES.spent()
    figures += [
        Figure(name=f"minutes_{part.replace('-', '_')}", value=minutes, target="", meaning="") for part, minutes in spent.items()
    ]
    return [*figures, Figure(name="minutes", value=sum(spent.values()), target=f"<= {MOST_MINUTES}", meaning="of all parts")]


def _of_gain(name: str, gain: dict[str, Any], judge: str) -> list[Figure]:
    target = "> 0" if name == "gain_agent_over_bc_b" else ""
    about = f"under {judge}, paired by prompts"
    return [
        Figure(name=name, value=gain["gain"], target="", meaning=about),
        Figure(name=f"{name}_length_controlled", value=gain["length_controlled"], target="", meaning="lengths being equal"),
        Figure(name=f"{name}_low", value=gain["length_controlled_low"], target=target,
               meaning="lower end of that one's 95 % interval over prompts"),
        Figure(name=f"{name}_high", value=gain["length_controlled_high"], target="", meaning="upper end"),
    ]  # fmt: skip


if __name__ == "__main__":
    RUNS.mkdir(parents=True, exist_ok=True)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE)

"""Ends a run: exports the model, measures what it is worth, and writes result.json, which marks the run done."""

from __future__ import annotations

import json
import resource
import shutil
from typing import Any

import pytorch_lightning as pl
import torch

from rfr.data.batches import PairRows
from rfr.errors import reading
from rfr.evaluate.judge_check import judge_check, pair_accuracy_of
from rfr.evaluate.quality import cycle_prompts, judge
from rfr.evaluate.reward_model_judge import TOKENS
from rfr.generation.sampling import sample
from rfr.loggers.loggers import finish
from rfr.model.save import EXPORT_INFO, export
from rfr.runs.outcome import record_result
from rfr.strategy.deepspeed import gathered_parameters
from rfr.train.build import Run
from rfr.train.learner import Learner
from rfr.train.load_judge import load_judge
from rfr.train.policy import start_policy
from rfr.utils.files import new_folder

BEST = "best"  # in a run's folder, the model that validated best
ON_A_PROMPT = 8  # stories by which a judge is looked at: how it tells those on one prompt apart


def finish_run(run: Run, trainer: pl.Trainer, tokens_per_second: float) -> dict[str, Any]:
    """Write and print the result. Every rank calls this, since ZeRO-3 gathers parameters."""
    learner = trainer.lightning_module
    assert isinstance(learner, Learner)
    with gathered_parameters(trainer):
        if trainer.is_global_zero:
            about = {"step": trainer.global_step, **learner.validated}
            export(run.model, run.prepared.tokenizer, run.run_dir / "model", about, run.learned)
            worth = _true_quality(run) if run.recipe.objective.loss.is_policy else {}
    if not trainer.is_global_zero:
        return {}
    chosen = {} if run.recipe.objective.loss.is_policy else _choose_best_judge(run)
    result: dict[str, Any] = {
        "run_dir": str(run.run_dir),
        "steps": trainer.global_step,
        **(learner.validated | chosen),
        "tokens_per_second": round(tokens_per_second, 1),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        **({"ess": round(ess, 4)} if (ess := run.data.figures.get("weights/ess")) is not None else {}),
        **{f"{name}_before": value for name, value in learner.validated_before.items()},
        **worth,
    }
    if not run.recipe.objective.loss.is_policy:
        result |= _judge_figures(run)
    measured = {name: value for name, value in result.items() if name.startswith(("quality", "judge/"))}
    finish(trainer.loggers, measured, trainer.global_step, [run.run_dir / "ledger.json"])
    if run.layout.scratch is not None:
        shutil.rmtree(run.layout.scratch, ignore_errors=True)
    record_result(run.run_dir, result)
    print(json.dumps(result), flush=True)
    return result


def _true_quality(run: Run) -> dict[str, float | None]:
    stories, quality = run.recipe.evaluation, run.recipe.corpus.quality
    if not stories.count or quality is None:
        return {}
    prompts = [story.prompt for story in run.prepared.validation.stories]
    return judge(
        lambda chosen: [story.text for story in sample(run.model, run.prepared.tokenizer, chosen, stories.sampling)],
        prompts,
        stories.count,
        quality,
    )


def _choose_best_judge(run: Run) -> dict[str, float]:
    """Put the judge that validated best, where it was kept, in the place of the last one; its figures."""
    best = run.run_dir / BEST
    if not run.recipe.trainer.keep_best or not best.is_dir():
        return {}
    with new_folder(run.run_dir / "model") as partial:
        shutil.copytree(best, partial, dirs_exist_ok=True)
    with reading(best / EXPORT_INFO):
        info = json.loads((best / EXPORT_INFO).read_text())
    return {"best_step": info.pop("step"), **info}


def _judge_figures(run: Run) -> dict[str, float]:
    """What a judge's accuracy does not tell: what noise allows, and how it scores the stories of the policy it began with."""
    figures: dict[str, float] = {}
    quality, asked, held_out = run.recipe.corpus.quality, run.recipe.evaluation, run.prepared.validation.stories
    if quality is not None and isinstance(run.data.validation, PairRows):
        figures["judge/pair_accuracy_of_truth"] = pair_accuracy_of(quality, run.data.validation.comparisons, held_out)
    policy = start_policy(run.recipe, run.prepared.tokenizer) if asked.count else None
    if policy is None:
        return figures
    distinct = list(dict.fromkeys(held_out.column("prompt").tolist()))
    prompts = cycle_prompts(distinct[: -(-asked.count // ON_A_PROMPT)], asked.count)
    policy.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]
    written = sample(policy, run.prepared.tokenizer, prompts, asked.sampling)
    stories = [(story.prompt, story.text) for story in written]
    scored = load_judge(str(run.run_dir / "model"), TOKENS, str(run.recipe.data_dir))
    found = judge_check(stories, scored(stories), quality)
    return figures | {f"judge/{name}": value for name, value in found.items()}

"""Fits one run, from the first step to its result."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from rfr.data.loader import Batching, RowDataModule
from rfr.errors import Interrupted
from rfr.evaluate.quality import judge
from rfr.generation.sampling import sample
from rfr.loggers.loggers import RunInfo, finish, log_start
from rfr.model.save import export
from rfr.runs.folder import write_config
from rfr.runs.outcome import record_result
from rfr.strategy.deepspeed import gathered_parameters
from rfr.strategy.precision import DTYPE
from rfr.strategy.ranks import ranks
from rfr.train.build import Run, build
from rfr.train.callbacks import GracefulStop, LogSamples, SaveBest, Throughput, progress_display
from rfr.train.checkpoints import STATE, Checkpoints, StreamedCheckpointIO, step_of
from rfr.train.learner import Learner, Optimization
from rfr.train.recipe import Recipe
from rfr.train.summary import print_start
from rfr.utils.files import write_atomically
from rfr.utils.hashing import key_of
from rfr.utils.quiet import silence_libraries


def train(recipe: Recipe, run_dir: Path, *, again: str | None = None) -> dict:
    """Train one run, from the start or from its newest checkpoint; returns (and prints) its result.

    Args:
        again: how to go on with the run where it is interrupted; None: with `resume=`.

    Raises:
        UserError: a value is wrong; nothing has been written then.
        Interrupted: stopped by a signal; the message says how to resume.
    """
    again = again or f"go on with: python train.py resume={run_dir}"
    silence_libraries()
    run = build(recipe, run_dir)
    print_start(run)
    run_dir.mkdir(parents=True, exist_ok=True)
    if ranks().rank == 0 and not (ledger := run_dir / "ledger.json").exists():
        write_config(run_dir, run.recipe.config)
        write_atomically(ledger, json.dumps(run.prepared.ledger, indent=2) + "\n")
    throughput, stop = Throughput(DTYPE[run.precision]), GracefulStop()
    try:
        trainer = fit(run, [throughput, stop])
    except (KeyboardInterrupt, SystemExit):  # Lightning turns KeyboardInterrupt into SystemExit
        raise Interrupted(f"interrupted at once; {again}") from None
    if stop.stopped and trainer.global_step < recipe.trainer.max_steps:
        raise Interrupted(f"stopped at step {trainer.global_step}; {again}")
    result = _finish(run, trainer, throughput)
    if torch.distributed.is_initialized():  # a rank that leaves while others still talk to it ends in an abort
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return result


def fit(run: Run, extra_callbacks: list[pl.Callback], *, persist: bool = True) -> pl.Trainer:
    """Run Lightning; on return the newest checkpoint holds the state the model is in.

    Args:
        persist: False: nothing is validated, logged or saved.
    """
    recipe, settings, here = run.recipe, run.recipe.trainer, ranks()
    optimization = Optimization(
        make_optimizer=recipe.make_optimizer,
        schedule=recipe.schedule,
        total_steps=settings.max_steps,
        weight_decay=recipe.weight_decay,
    )
    learner = Learner(run.model, recipe.objective.loss, optimization, recipe.seed)
    batching = Batching(
        micro_batch=settings.micro_batch, accumulate=settings.accumulate, steps=settings.max_steps, seed=recipe.seed
    )
    start_step = step_of(run.resume_from) if run.resume_from else 0
    data = RowDataModule(run.data.train, run.data.validation, batching, start_step, settings.validation_rows)
    pl.seed_everything(recipe.seed, verbose=False)
    clocks = [
        callback.clock for callback in extra_callbacks if isinstance(callback, Throughput)
    ]  # go on when all others are done
    trainer = pl.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=here.per_node if here.launched else settings.ranks,
        num_nodes=here.nodes,
        strategy=run.layout.strategy,
        plugins=[run.layout.plugin, StreamedCheckpointIO()],
        max_steps=settings.max_steps,
        max_epochs=1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip,
        val_check_interval=min(settings.validate_every, settings.max_steps) * settings.accumulate,
        limit_val_batches=None if persist else 0,
        num_sanity_val_steps=-1 if settings.validate_first and persist else 0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=sys.stderr.isatty(),
        logger=_loggers(run) if persist else False,
        callbacks=[*extra_callbacks, *(_persistent_callbacks(run) if persist else []), progress_display(), *clocks],
    )
    trainer.fit(learner, data, ckpt_path=run.resume_from / STATE if run.resume_from else None, weights_only=False)
    return trainer


def _persistent_callbacks(run: Run) -> list[pl.Callback]:
    """Callbacks that leave something behind while the run goes on."""
    recipe, settings = run.recipe, run.recipe.trainer
    prompts = list(dict.fromkeys(story.prompt for story in run.prepared.validation.stories))
    prompts = prompts[: recipe.samples.count] if recipe.objective.loss.is_policy else []
    return [
        *([SaveBest(run.run_dir / "best", run.prepared.tokenizer)] if settings.keep_best else []),
        LogSamples(run.run_dir, prompts, run.prepared.tokenizer, recipe.samples.sampling),
        Checkpoints(
            run.run_dir / "checkpoints",
            every_n_steps=settings.checkpoint_every,
            validate_every=min(settings.validate_every, settings.max_steps),
            keep=settings.keep_checkpoints,
            fingerprint=run.fingerprint,
        ),
    ]


def _loggers(run: Run) -> list[Any]:
    if ranks().rank > 0:
        return []
    tags = _tags(run.recipe)
    info = RunInfo(
        run_id=key_of(str(run.run_dir.resolve()))[:12],
        name=run.run_dir.name,
        config=run.recipe.config | run.data.figures | {"chosen": tags},
        tags=list(tags.values()),
        group=run.recipe.group,
    )
    loggers = [make(run.run_dir, info) for make in run.recipe.make_loggers]
    if run.resume_from is None:
        log_start(loggers, run.data.figures, run.data.arrays)
    return loggers


def _tags(recipe: Recipe) -> dict[str, str]:
    """The choices, by group, that runs are looked up by."""
    config = recipe.config
    classes = {group: str(config[group]["_target_"]).rsplit(".", 1)[-1] for group in ("corpus", "reward", "schedule", "strategy")}
    return {"objective": recipe.objective.name, "model": str(recipe.model.hub_name or "random"), **classes}


def _finish(run: Run, trainer: pl.Trainer, throughput: Throughput) -> dict:
    """Export, measure quality where it is known, write result.json, which marks a run done, and print it."""
    model_dir, learner = run.run_dir / "model", trainer.lightning_module
    assert isinstance(learner, Learner)
    result: dict[str, Any] = {
        "run_dir": str(run.run_dir),
        "steps": trainer.global_step,
        **learner.validated,
        "tokens_per_second": round(throughput.tokens_per_second, 1),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        **({"ess": round(ess, 4)} if (ess := run.data.figures.get("weights/ess")) is not None else {}),
        **{f"{name}_before": value for name, value in learner.validated_before.items()},
    }
    with gathered_parameters(trainer):
        if trainer.is_global_zero:
            export(run.model, run.prepared.tokenizer, model_dir, {"step": result["steps"], **learner.validated})
            result |= _true_quality(run)
    if trainer.is_global_zero:
        quality = {name: value for name, value in result.items() if name.startswith("quality")}
        finish(trainer.loggers, quality, trainer.global_step, [run.run_dir / "ledger.json"])
        if run.layout.scratch is not None:
            shutil.rmtree(run.layout.scratch, ignore_errors=True)
        record_result(run.run_dir, result)
        print(json.dumps(result), flush=True)
    return result


def _true_quality(run: Run) -> dict[str, float | None]:
    stories, quality = run.recipe.evaluation, run.recipe.corpus.quality
    if not stories.count or quality is None or not run.recipe.objective.loss.is_policy:
        return {}
    prompts = [story.prompt for story in run.prepared.validation.stories]
    return judge(
        lambda chosen: [story.text for story in sample(run.model, run.prepared.tokenizer, chosen, stories.sampling)],
        prompts,
        stories.count,
        quality,
    )

"""Fits one run, from the first step to its result."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from rfr.data.loader import Batching, RowDataModule
from rfr.errors import Interrupted
from rfr.loggers.loggers import RunInfo, log_start
from rfr.runs.folder import write_config
from rfr.strategy.precision import DTYPE
from rfr.strategy.ranks import ranks
from rfr.train.best_model import EarlyStop, SaveBest
from rfr.train.build import Run, build
from rfr.train.callbacks import GracefulStop, LogSamples, Throughput, progress_display
from rfr.train.checkpoints import STATE, Checkpoints, StreamedCheckpointIO, step_of
from rfr.train.finish import BEST, finish_run
from rfr.train.learner import Learner, Optimization
from rfr.train.recipe import Recipe
from rfr.train.rounds import RoundDataModule, Rounds
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
    result = finish_run(run, trainer, throughput.tokens_per_second)
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
    validations = run.data.validations
    learner = Learner(run.model, recipe.objective.loss, optimization, recipe.seed, list(validations))
    batching = Batching(
        micro_batch=settings.micro_batch, accumulate=settings.micro_batches, steps=settings.max_steps, seed=recipe.seed
    )
    start_step = step_of(run.resume_from) if run.resume_from else 0
    throughputs = [callback for callback in extra_callbacks if isinstance(callback, Throughput)]
    pauses = [throughput.paused for throughput in throughputs]
    rounds = None if run.agent is None else Rounds(run, batching, start_step, pauses[0] if pauses else nullcontext)
    split = (run.data.train, list(validations.values()), batching, start_step, settings.validation_rows)
    data = RowDataModule(*split) if rounds is None else RoundDataModule(rounds, *split[1:])
    pl.seed_everything(recipe.seed, verbose=False)
    trainer = pl.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=here.per_node if here.launched else settings.ranks,
        num_nodes=here.nodes,
        strategy=run.layout.strategy,
        plugins=[run.layout.plugin, StreamedCheckpointIO()],
        max_steps=settings.max_steps,
        max_epochs=1,
        accumulate_grad_batches=settings.micro_batches,
        gradient_clip_val=settings.gradient_clip,
        val_check_interval=min(settings.validate_every, settings.max_steps) * settings.micro_batches,
        limit_val_batches=None if persist else 0,
        num_sanity_val_steps=-1 if settings.validate_first and persist else 0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=sys.stderr.isatty(),
        logger=_loggers(run) if persist else False,
        callbacks=[
            *extra_callbacks,
            *([] if rounds is None else [rounds]),
            *(_persistent_callbacks(run) if persist else []),
            progress_display(),
            *(throughput.clock for throughput in throughputs),  # go on when all others are done
        ],
    )
    trainer.fit(learner, data, ckpt_path=run.resume_from / STATE if run.resume_from else None, weights_only=False)
    return trainer


def _persistent_callbacks(run: Run) -> list[pl.Callback]:
    """Callbacks that leave something behind while the run goes on."""
    recipe, settings = run.recipe, run.recipe.trainer
    prompts = list(dict.fromkeys(story.prompt for story in run.prepared.validation.stories))
    prompts = prompts[: recipe.samples.count] if recipe.objective.loss.is_policy else []
    monitor = f"{list(run.data.validations)[-1]}/{recipe.objective.loss.monitor}"
    is_watched = recipe.rollouts is not None and bool(recipe.rollouts.watch)  # the watch judge chooses the best
    best = SaveBest(run.run_dir / BEST, run.prepared.tokenizer, monitor, run.learned)
    return [
        *([best] if settings.keep_best and not is_watched else []),
        *([EarlyStop(monitor, settings.patience)] if settings.patience else []),
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

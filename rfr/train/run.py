"""Objects -> fit -> metrics: one training run, from the first step to its result."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rfr.config import CONFIG, plain
from rfr.data.loader import RowsModule
from rfr.errors import Interrupted
from rfr.evaluate.quality import judge
from rfr.generation.sampling import sample
from rfr.loggers.loggers import finish, log_start, quiet
from rfr.model.save import export
from rfr.runs.outcome import record_result
from rfr.strategy.deepspeed import whole_parameters
from rfr.strategy.precision import DTYPE
from rfr.strategy.ranks import ranks
from rfr.train.build import Job, build
from rfr.train.callbacks import Best, Samples, StopCleanly, Throughput, progress_display
from rfr.train.checkpoints import STATE, Checkpoints, StreamedCheckpointIO, step_of
from rfr.train.learner import Learner
from rfr.utils.cache import key_of
from rfr.utils.files import write_whole


def train(cfg: DictConfig, run_dir: Path, *, again: str | None = None) -> dict:
    """Train one run, from the start or from its newest checkpoint; returns (and prints) its result.

    Args:
        again: how to go on with the run where it is interrupted; None: with `resume=`.

    Raises:
        ValueError: a value is wrong; nothing has been written then.
        Interrupted: stopped by a signal; the message says how to resume.
    """
    again = again or f"go on with: python train.py resume={run_dir}"
    quiet()
    job = build(cfg, run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    if ranks().rank == 0 and not (ledger := run_dir / "ledger.json").exists():
        write_whole(run_dir / CONFIG, OmegaConf.to_yaml(cfg))
        write_whole(ledger, json.dumps(job.prepared.ledger, indent=2) + "\n")
    throughput, stop = Throughput(DTYPE[job.precision]), StopCleanly()
    try:
        trainer = fit(job, [throughput, stop])
    except (KeyboardInterrupt, SystemExit):  # Lightning makes the one into the other
        raise Interrupted(f"interrupted at once; {again}") from None
    if stop.stopped and trainer.global_step < cfg.trainer.max_steps:
        raise Interrupted(f"stopped at step {trainer.global_step}; {again}")
    result = _finish(job, trainer, throughput)
    if torch.distributed.is_initialized():  # a rank that leaves while others still talk to it ends in an abort
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return result


def fit(job: Job, extra_callbacks: list[pl.Callback], *, lasting: bool = True) -> pl.Trainer:
    """Run Lightning; on return the newest checkpoint holds the state the model is in.

    Args:
        lasting: False: nothing is validated, logged or saved.
    """
    cfg, settings, here = job.cfg, job.cfg.trainer, ranks()
    module = Learner(
        job.model, job.objective.loss, instantiate({k: v for k, v in cfg.optimizer.items() if k != "weight_decay"}),
        instantiate(cfg.schedule), settings.max_steps, cfg.optimizer.weight_decay, cfg.seed,
    )  # fmt: skip
    data = RowsModule(
        job.material.train, job.material.validation, micro_batch=settings.micro_batch, accumulate=settings.accumulate,
        steps=settings.max_steps, seed=cfg.seed, validation_rows=settings.validation_rows,
        start_step=step_of(job.resume_from) if job.resume_from else 0,
    )  # fmt: skip
    pl.seed_everything(cfg.seed, verbose=False)
    trainer = pl.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=here.per_node if here.launched else settings.ranks,
        num_nodes=here.nodes,
        strategy=job.layout.strategy,
        plugins=[job.layout.plugin, StreamedCheckpointIO()],
        max_steps=settings.max_steps,
        max_epochs=1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip,
        val_check_interval=min(settings.validate_every, settings.max_steps) * settings.accumulate,
        limit_val_batches=None if lasting else 0,
        num_sanity_val_steps=-1 if settings.validate_first and lasting else 0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=sys.stderr.isatty(),
        logger=_loggers(job) if lasting else False,
        callbacks=[*extra_callbacks, *(_keeping(job) if lasting else []), progress_display(), *_clocks(extra_callbacks)],
    )
    trainer.fit(module, data, ckpt_path=job.resume_from / STATE if job.resume_from else None, weights_only=False)
    return trainer


def _clocks(callbacks: list[pl.Callback]) -> list[pl.Callback]:
    """Started again when all others are done."""
    return [callback.clock for callback in callbacks if isinstance(callback, Throughput)]


def _keeping(job: Job) -> list[pl.Callback]:
    """What leaves something behind while the run goes on."""
    cfg, settings = job.cfg, job.cfg.trainer
    prompts = list(dict.fromkeys(pair.prompt for pair in job.prepared.validation.pairs))
    prompts = prompts[: cfg.samples.prompts] if job.objective.loss.is_policy else []
    return [
        *([Best(job.run_dir / "best", job.prepared.tokenizer)] if settings.keep_best else []),
        Samples(job.run_dir, prompts, job.prepared.tokenizer, instantiate(cfg.samples.sampling)),
        Checkpoints(
            job.run_dir / "checkpoints", every_n_steps=settings.checkpoint_every,
            validate_every=min(settings.validate_every, settings.max_steps), keep=settings.keep_checkpoints, about=job.about,
        ),
    ]  # fmt: skip


def _loggers(job: Job) -> list[Any]:
    if ranks().rank > 0:
        return []
    cfg = job.cfg
    chosen = _chosen(cfg)
    about = {
        "run_dir": job.run_dir, "config": plain(cfg) | job.material.figures | {"chosen": chosen}, "tags": list(chosen.values()),
        "run_id": key_of(str(job.run_dir.resolve()))[:12], "name": job.run_dir.name, "group": cfg.group,
    }  # fmt: skip
    loggers = [make(**about) for make in instantiate(cfg.logger).values()]
    if job.resume_from is None:
        log_start(loggers, job.material.figures, job.material.arrays)
    return loggers


def _chosen(cfg: DictConfig) -> dict[str, str]:
    """What runs are looked up by: of the groups that matter most, what was chosen."""
    classes = {group: str(cfg[group]["_target_"]).rsplit(".", 1)[-1] for group in ("corpus", "reward", "schedule", "strategy")}
    return {"objective": cfg.objective.name, "model": str(cfg.model.hub_name or "random"), **classes}


def _finish(job: Job, trainer: pl.Trainer, throughput: Throughput) -> dict:
    """Export, judge where quality is known, leave result.json and the JSON line; the last thing that marks a run done."""
    model_dir, learner = job.run_dir / "model", trainer.lightning_module
    assert isinstance(learner, Learner)
    result: dict[str, Any] = {
        "run_dir": str(job.run_dir),
        "steps": trainer.global_step,
        **learner.validated,
        "tokens_per_second": round(throughput.tokens_per_second, 1),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        **({"ess": round(ess, 4)} if (ess := job.material.figures.get("weights/ess")) is not None else {}),
        **{f"{name}_before": value for name, value in learner.validated_before.items()},
    }
    with whole_parameters(trainer):
        if trainer.is_global_zero:
            export(job.model, job.prepared.tokenizer, model_dir, {"step": result["steps"], **learner.validated})
            result |= _judged(job)
    if trainer.is_global_zero:
        quality = {name: value for name, value in result.items() if name.startswith("quality")}
        finish(trainer.loggers, quality, trainer.global_step, [job.run_dir / "ledger.json"])
        if job.layout.scratch is not None:
            shutil.rmtree(job.layout.scratch, ignore_errors=True)
        record_result(job.run_dir, result)
        print(json.dumps(result), flush=True)
    return result


def _judged(job: Job) -> dict[str, float]:
    count = job.cfg.evaluation.stories
    if not count or job.quality is None or not job.objective.loss.is_policy:
        return {}
    prompts = [pair.prompt for pair in job.prepared.validation.pairs]
    sampling = instantiate(job.cfg.evaluation.sampling)
    return judge(lambda chosen: sample(job.model, job.prepared.tokenizer, chosen, sampling), prompts, count, job.quality)

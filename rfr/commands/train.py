"""The train command: one run, a resumed run, or a point of a sweep; each training is one process tree of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rfr import config
from rfr.errors import UserError
from rfr.runs.lock import run_lock
from rfr.runs.outcome import result_of
from rfr.strategy.ranks import ranks, require_processors
from rfr.train.process import train_in_child
from rfr.train.settings import Train
from rfr.utils.files import write_whole

LAYOUT = ("trainer.ranks=", "trainer.micro_batch=", "trainer.accumulate=")  # a resumed run may be laid out anew
GROUP = "RFR_SWEEP"  # environment variable: the sweep that jobs belong to


def run(cfg: DictConfig) -> float | None:
    """What `train.py` does with a composed config; of a sweep's point returns `metric`, for a search to go by.

    Raises:
        UserError: the run folder exists already, `resume` is no run folder, or a value is wrong.
        Interrupted: the run was stopped and can be resumed.
    """
    hydra = HydraConfig.get()
    own = config.checked(config.resolve_run(cfg), Train, calls=False)  # the rest is checked where torch is imported
    if own.look != 0:
        _look(own, alone=hydra.mode != RunMode.MULTIRUN and not cfg.resume)
    elif own.plan not in (None, False):
        from rfr.commands.plan import show

        show(own)
    elif own.preview:
        from rfr.commands.preview import preview

        preview({"this run": own})
    elif own.find_lr is not None:
        _find_lr(own, alone=hydra.mode != RunMode.MULTIRUN and not cfg.resume)
    elif hydra.mode == RunMode.MULTIRUN:
        if ranks().launched:
            raise UserError("a sweep starts the processes of its runs itself: leave out torchrun or srun, set trainer.ranks")
        if not (own.group or GROUP in os.environ):
            raise UserError("this job's launcher keeps the sweep's name from it: give the sweep one, group=...")
        own.group = own.group or os.environ[GROUP]
        return _sweep_point(own, hydra.launcher)
    elif own.resume:
        _resume(Path(own.resume), list(hydra.overrides.task))
    else:
        _single(own)
    return None


def _look(cfg: DictConfig, *, alone: bool) -> None:
    if not alone:
        raise UserError(f"look={cfg.look} shows the pairs of one config and trains nothing: leave out -m and resume=")
    from rfr.commands.look import show

    show(cfg)


def _find_lr(cfg: DictConfig, *, alone: bool) -> None:
    if not alone:
        raise UserError(f"find_lr={cfg.find_lr} tests one config and trains nothing: leave out -m and resume=")
    if cfg.trainer.ranks > 1 and not ranks().launched:
        raise UserError("find_lr tests in one process: leave out trainer.ranks, or start it with torchrun")
    from rfr.commands.find_lr import show

    show(cfg)


def _single(cfg: DictConfig) -> None:
    run_dir = config.run_folder(cfg)

    def require_new() -> None:
        if run_dir.exists() and ranks().rank == 0:
            hint = "finished" if result_of(run_dir) is not None else f"to go on with it: train.py resume={run_dir}"
            raise UserError(f"{run_dir} exists already ({hint}): set name= to something new, or move it away")

    _start(cfg, run_dir, require_new)


def _resume(run_dir: Path, overrides: list[str]) -> None:
    cfg = config.load(run_dir)
    layout = [override for override in overrides if override.startswith(LAYOUT)]
    others = [override for override in overrides if not override.startswith(("resume=", *LAYOUT))]
    if others:
        raise UserError(f"a resumed run keeps its own config: drop {' '.join(others)}, or start a new run")
    cfg.merge_with_dotlist(layout)
    cfg = config.checked(cfg, Train, calls=False)

    def require_unfinished() -> None:
        if result_of(run_dir) is not None:
            raise UserError(f"{run_dir} is finished; its model is in {run_dir / 'model'}")

    if run_dir.stat().st_uid != os.getuid():
        raise UserError(f"{run_dir} belongs to another user, and checkpoints can run code when loaded: copy it if you trust it")
    _start(cfg, run_dir, require_unfinished)


def _start(cfg: DictConfig, run_dir: Path, require_startable: Callable[[], None]) -> None:
    """Train under the folder's lock, which of several ranks that were started together the first one holds."""
    here, again = ranks(), f"go on with: python train.py resume={run_dir}"
    require_processors(here.per_node if here.launched else cfg.trainer.ranks)
    with run_lock(run_dir) if here.rank == 0 else nullcontext(-1) as lock:
        require_startable()
        if cfg.trainer.ranks > 1 and not here.launched:
            train_in_child(cfg, run_dir, lock, again=again)
        else:
            from rfr.train.run import train

            train(cfg, run_dir, again=again)


def _sweep_point(cfg: DictConfig, launcher: DictConfig) -> float | None:
    """Skipped when finished, resumed when interrupted, always a process of its own."""
    run_dir = config.run_folder(cfg)
    with run_lock(run_dir) if result_of(run_dir) is None else nullcontext(-1) as lock:
        if result_of(run_dir) is not None:  # another process may have finished it a moment ago
            print(f"{run_dir} is finished: skipped", flush=True)
        else:
            run_dir.mkdir(parents=True, exist_ok=True)
            if not (path := run_dir / config.CONFIG).exists():
                write_whole(path, OmegaConf.to_yaml(cfg))  # one that fails before its first step is in the tables, too
            require_processors(cfg.trainer.ranks)
            train_in_child(cfg, run_dir, lock, again="start the same command again", at_once=_jobs_at_once(launcher))
    return (result_of(run_dir) or {}).get(cfg.metric)


def _jobs_at_once(launcher: DictConfig) -> int:
    """How many jobs a launcher has running on one machine, as far as it says."""
    jobs = int(launcher.get("n_jobs", 1))
    return jobs if jobs > 0 else len(os.sched_getaffinity(0))

"""The train command: one run, a resumed run, or a point of a sweep, each in a process tree of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rfr.config import check_types, plain, resolve_run
from rfr.errors import UserError
from rfr.runs.folder import CONFIG, load, run_folder, write_config
from rfr.runs.lock import run_lock
from rfr.runs.outcome import result_of
from rfr.strategy.ranks import ranks, require_processors
from rfr.train.process import train_in_child
from rfr.train.settings import TrainConfig

# Prefixes of the keys that may change when a run is resumed.
RESHAPABLE = ("trainer.ranks=", "trainer.micro_batch=", "trainer.accumulate=")
GROUP = "RFR_SWEEP"  # environment variable: the sweep that jobs belong to


def run(cfg: DictConfig) -> float | None:
    """Do what `train.py` is asked for with a composed config; of a sweep's point return `metric`, for a search to go by.

    Raises:
        UserError: the run folder exists already, `resume` is no run folder, or a value is wrong.
        Interrupted: the run was stopped and can be resumed.
    """
    hydra = HydraConfig.get()
    sweeping, resuming = hydra.mode == RunMode.MULTIRUN, bool(cfg.resume)
    cfg = check_types(resolve_run(cfg), TrainConfig, calls=False)  # Recipe.of checks the rest, where torch is imported
    if cfg.look != 0:
        _look(cfg, alone=not (sweeping or resuming))
    elif cfg.plan not in (None, False):
        _plan(cfg)
    elif cfg.preview:
        _preview(cfg)
    elif cfg.find_lr is not None:
        _find_lr(cfg, alone=not (sweeping or resuming))
    elif sweeping:
        return _sweep_point(cfg, hydra.launcher)
    elif resuming:
        _resume(Path(cfg.resume), list(hydra.overrides.task))
    else:
        _single(cfg)
    return None


def _look(cfg: DictConfig, *, alone: bool) -> None:
    if not alone:
        raise UserError(f"look={cfg.look} shows the stories of one config and trains nothing: leave out -m and resume=")
    from rfr.commands.look import look
    from rfr.train.recipe import Recipe

    look(Recipe.of(cfg), cfg.look)


def _plan(cfg: DictConfig) -> None:
    from rfr.commands.plan import plan
    from rfr.train.recipe import Recipe

    plan(Recipe.of(cfg), gpu=None if cfg.plan is True else str(cfg.plan))


def _preview(cfg: DictConfig) -> None:
    from rfr.commands.preview import preview
    from rfr.train.recipe import Recipe

    preview({"this run": Recipe.of(cfg)})


def _find_lr(cfg: DictConfig, *, alone: bool) -> None:
    if not alone:
        raise UserError(f"find_lr={cfg.find_lr} tests one config and trains nothing: leave out -m and resume=")
    if cfg.trainer.ranks > 1 and not ranks().launched:
        raise UserError("find_lr tests in one process: leave out trainer.ranks, or start it with torchrun")
    from rfr.commands.find_lr import find_lr
    from rfr.train.recipe import Recipe

    find_lr(Recipe.of(cfg), cfg.find_lr)


def _single(cfg: DictConfig) -> None:
    run_dir = run_folder(cfg)

    def require_new() -> None:
        if run_dir.exists() and ranks().rank == 0:
            hint = "finished" if result_of(run_dir) is not None else f"to go on with it: train.py resume={run_dir}"
            raise UserError(f"{run_dir} exists already ({hint}): set name= to something new, or move it away")

    _start(cfg, run_dir, require_new)


def _resume(run_dir: Path, overrides: list[str]) -> None:
    cfg = load(run_dir)
    reshaped = [override for override in overrides if override.startswith(RESHAPABLE)]
    others = [override for override in overrides if not override.startswith(("resume=", *RESHAPABLE))]
    if others:
        raise UserError(f"a resumed run keeps its own config: drop {' '.join(others)}, or start a new run")
    cfg.merge_with_dotlist(reshaped)
    if any(override.startswith("trainer.ranks=") for override in reshaped):
        cfg.threads = None  # the ranks share the cores anew
    cfg = check_types(cfg, TrainConfig, calls=False)

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
            train_in_child(plain(cfg), run_dir, lock, again=again)
        else:
            from rfr.train.recipe import Recipe
            from rfr.train.run import train

            train(Recipe.of(cfg), run_dir, again=again)


def _sweep_point(cfg: DictConfig, launcher: DictConfig) -> float | None:
    """Train a point in a process of its own: skipped when finished, resumed when interrupted."""
    if ranks().launched:
        raise UserError("a sweep starts the processes of its runs itself: leave out torchrun or srun, set trainer.ranks")
    if not (cfg.group or GROUP in os.environ):
        raise UserError("this job's launcher keeps the sweep's name from it: give the sweep one, group=...")
    cfg.group = cfg.group or os.environ[GROUP]
    run_dir = run_folder(cfg)
    with run_lock(run_dir) if result_of(run_dir) is None else nullcontext(-1) as lock:
        if result_of(run_dir) is not None:  # another process may have finished it a moment ago
            print(f"{run_dir} is finished: skipped", flush=True)
        else:
            run_dir.mkdir(parents=True, exist_ok=True)
            if not (run_dir / CONFIG).exists():
                write_config(run_dir, plain(cfg))  # now, so that a run that fails before its first step is in the tables
            require_processors(cfg.trainer.ranks)
            train_in_child(plain(cfg), run_dir, lock, again="start the same command again", at_once=_jobs_at_once(launcher))
    return (result_of(run_dir) or {}).get(cfg.metric)


def _jobs_at_once(launcher: DictConfig) -> int:
    """How many jobs a launcher has running on one machine, as far as it says."""
    jobs = int(launcher.get("n_jobs", 1))
    return jobs if jobs > 0 else len(os.sched_getaffinity(0))

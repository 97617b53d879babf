"""The train command: one run, a resumed run, or a point of a sweep; each training is one process tree of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rfr import config
from rfr.errors import Interrupted, RunFailed, UserError
from rfr.ranks import ranks, require_processors

RESULT = "result.json"
LAYOUT = ("trainer.ranks=", "trainer.micro_batch=", "trainer.accumulate=")  # a resumed run may be laid out anew
GROUP = "RFR_SWEEP"  # environment variable: the sweep that jobs belong to


def run(cfg: DictConfig) -> None:
    """What `train.py` does with a composed config.

    Raises:
        UserError: the run folder exists already, `resume` is no run folder, or a value is wrong.
        Interrupted: the run was stopped and can be resumed.
    """
    hydra = HydraConfig.get()
    if cfg.look != 0:
        _look(cfg, alone=hydra.mode != RunMode.MULTIRUN and not cfg.resume)
    elif cfg.plan not in (None, False):
        from rfr.plan import show

        show(config.resolve(cfg))
    elif hydra.mode == RunMode.MULTIRUN:
        if ranks().launched:
            raise UserError("a sweep starts the processes of its runs itself: leave out torchrun or srun, set trainer.ranks")
        cfg.group = cfg.group or os.environ[GROUP]
        _sweep_point(config.resolve(cfg))
    elif cfg.resume:
        _resume(Path(cfg.resume), list(hydra.overrides.task))
    else:
        _single(config.resolve(cfg))


def _look(cfg: DictConfig, *, alone: bool) -> None:
    if not alone:
        raise UserError(f"look={cfg.look} shows the pairs of one config and trains nothing: leave out -m and resume=")
    from rfr.look import show

    show(config.resolve(cfg))


def _single(cfg: DictConfig) -> None:
    run_dir = config.run_folder(cfg)
    if run_dir.exists() and ranks().rank == 0:
        hint = "finished" if (run_dir / RESULT).exists() else f"to go on with it: train.py resume={run_dir}"
        raise UserError(f"{run_dir} exists already ({hint}): set name= to something new, or move it away")
    _start(cfg, run_dir, fresh=True)


def _resume(run_dir: Path, overrides: list[str]) -> None:
    cfg = config.load(run_dir)
    layout = [override for override in overrides if override.startswith(LAYOUT)]
    others = [override for override in overrides if not override.startswith(("resume=", *LAYOUT))]
    if others:
        raise UserError(f"a resumed run keeps its own config: drop {' '.join(others)}, or start a new run")
    cfg.merge_with_dotlist(layout)
    if (run_dir / RESULT).exists():
        raise UserError(f"{run_dir} is finished; its model is in {run_dir / 'model'}")
    if run_dir.stat().st_uid != os.getuid():
        raise UserError(f"{run_dir} belongs to another user, and checkpoints can run code when loaded: copy it if you trust it")
    _start(cfg, run_dir, fresh=False)


def _start(cfg: DictConfig, run_dir: Path, *, fresh: bool) -> None:
    here = ranks()
    require_processors(here.per_node if here.launched else cfg.trainer.ranks)
    if cfg.trainer.ranks > 1 and not here.launched:
        _run_child(cfg, run_dir)
    else:
        from rfr.run import train

        train(cfg, run_dir, fresh=fresh)


def _sweep_point(cfg: DictConfig) -> None:
    """One point of a sweep: skipped when finished, resumed when interrupted, always a process of its own."""
    run_dir = config.run_folder(cfg)
    if (run_dir / RESULT).exists():
        print(f"{run_dir} is finished: skipped", flush=True)
    else:
        require_processors(cfg.trainer.ranks)
        _run_child(cfg, run_dir)


def _run_child(cfg: DictConfig, run_dir: Path) -> None:
    """Train in child processes, torch.distributed.run's where there are several ranks."""
    handover = run_dir.parent / f".{run_dir.name}.yaml"
    handover.parent.mkdir(parents=True, exist_ok=True)
    handover.write_text(OmegaConf.to_yaml(cfg))
    launcher, environment = [], dict(os.environ)
    if cfg.trainer.ranks > 1:
        threads = max(1, len(os.sched_getaffinity(0)) // cfg.trainer.ranks)
        environment.setdefault("OMP_NUM_THREADS", str(threads))  # or torch.distributed.run makes it 1, and says so
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={cfg.trainer.ranks}"]
    child = subprocess.Popen([sys.executable, *launcher, "-m", "rfr.jobs", str(handover), str(run_dir)], env=environment)
    try:
        code = child.wait()
    except KeyboardInterrupt:  # the child got it too and is saving its checkpoint
        code = child.wait() or 130
    finally:
        handover.unlink(missing_ok=True)
    if code == 130:
        raise Interrupted(f"interrupted in {run_dir}: start the same command again to go on")
    if code:
        raise RunFailed(f"the run in {run_dir} failed with exit code {code}; its own message stands above", max(1, code))


def result_of(run_dir: Path) -> dict | None:
    """What a finished run left behind, None for an unfinished one."""
    path = run_dir / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def _main() -> None:
    """A child: the config it was handed, the folder to work in."""
    from rfr.exits import exit_code
    from rfr.run import train

    handover, run_dir = map(Path, sys.argv[1:])
    cfg = config.read(handover)
    fresh = not (run_dir / "config.yaml").exists()
    sys.exit(exit_code(lambda: train(cfg, run_dir, fresh=fresh)))


if __name__ == "__main__":
    _main()

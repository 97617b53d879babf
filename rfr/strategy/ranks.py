"""Which rank this process is, started by torchrun, by SLURM or alone."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rfr.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """`rank` of `nodes * per_node` processes; `launched`: by torchrun or SLURM, not by rfr."""

    rank: int = 0
    per_node: int = 1
    nodes: int = 1
    launched: bool = False


def ranks() -> Ranks:
    """As the environment tells it; one lone process where it tells nothing."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        per_node = int(env["LOCAL_WORLD_SIZE"])
        return Ranks(rank=int(env["RANK"]), per_node=per_node, nodes=int(env["WORLD_SIZE"]) // per_node, launched=True)
    if _is_slurm_step():
        tasks, nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", 1))
        return Ranks(rank=int(env["SLURM_PROCID"]), per_node=tasks // nodes, nodes=nodes, launched=True)
    return Ranks()


def world_size(asked: int) -> int:
    """The number of processes of the run: those that were launched, or else as many as are asked for."""
    here = ranks()
    return here.per_node * here.nodes if here.launched else asked


def require_processors(per_node: int) -> None:
    """Raises UserError where so many processes of one machine would have to share a GPU or, without GPUs, a core."""
    if per_node == 1:
        return
    import torch

    gpus, cores = torch.cuda.device_count(), len(os.sched_getaffinity(0))
    if per_node > (gpus or cores):
        there = f"{gpus} GPUs" if gpus else f"{cores} cores"
        most = f"set trainer.ranks to {gpus or cores} at most"
        raise UserError(f"{per_node} ranks on a machine with {there}: each needs its own, so {most}")


def _is_slurm_step() -> bool:
    if int(os.environ.get("SLURM_NTASKS", 1)) == 1:
        return False
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    return bool(SLURMEnvironment.detect())

"""Optimizer states on a disk: what they need, and what DeepSpeed forgets when such a run resumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from rfr.errors import UserError
from rfr.strategy.ranks import ranks
from rfr.strategy.universal_checkpoint import TAG

BYTES_PER_PARAMETER = 16  # per parameter: four times fp32


def offload_folder(chosen: str | None, run_dir: Path) -> Path:
    """Where a run's states go: a folder of its own, since DeepSpeed names its files by the parameters' numbers alone.

    Args:
        chosen: a folder on a fast disk; None: the run's own.

    Raises:
        UserError: the folder isn't there, or DeepSpeed's asynchronous reading and writing can't be built.
    """
    if chosen is not None and not Path(chosen).is_dir():
        raise UserError(
            f"strategy.nvme_path={chosen} is no folder: create it on a fast disk, or leave it out for one in the run's folder"
        )
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible(verbose=False):
        raise UserError("offloading to a disk needs the system package libaio-dev (apt-get install libaio-dev), or libaio-devel")
    folder = (Path(chosen) / run_dir.name if chosen else run_dir) / "offload"
    if ranks().rank == 0:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    return folder


def require_room(folder: Path, parameters: int) -> None:
    """Raises UserError where the disk has no room for fp32 parameters, two moments and gradients."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    needed, free = parameters * BYTES_PER_PARAMETER, shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"offloading {parameters:,} parameters takes {needed / 1e9:,.1f} GB in {folder}, and {free / 1e9:,.1f} GB are free: "
            "make room, or set strategy.nvme_path to a folder on another disk"
        )


def restore_states(engine: Any, checkpoint: Path) -> None:
    """Bring back what is not in the files of the swapped states.

    These are Adam's count of steps, rates, the loss scale, parameters too small to swap, and a note that there are moments to
    read.

    DeepSpeed (0.19) restores the files of moments and nothing else, so a resumed run would differ.
    """
    zero, adam = engine.optimizer, engine.optimizer.optimizer
    saved = torch.load(engine._get_zero_ckpt_name(str(checkpoint), TAG), map_location="cpu", weights_only=False)
    saved = saved["optimizer_state_dict"]
    zero._load_global_state_stage3(saved)
    zero._set_fp32_optimizer_param_groups()
    theirs = saved["optimizer_state_dict"]
    for index, parameter in enumerate(parameter for group in adam.param_groups for parameter in group["params"]):
        adam.state[parameter].update(theirs["state"][index])
    for mine, group in zip(adam.param_groups, theirs["param_groups"], strict=True):
        mine.update({name: value for name, value in group.items() if name != "params"})
    zero._clear_fp32_optimizer_param_groups()
    sizes = zero.fp16_partitioned_groups_flat_numel
    for parameter, value, size in zip(zero.fp32_partitioned_groups_flat, saved["fp32_flat_groups"], sizes, strict=True):
        if parameter.numel():
            parameter.data.copy_(value)
        else:
            _announce_moments(zero.optimizer_swapper, parameter, adam.state[parameter], int(size))
    zero._partition_all_parameters()
    zero.reset_swap_buffers()
    zero._post_step(set())


def _announce_moments(swapper: Any, parameter: torch.Tensor, state: dict[str, Any], size: int) -> None:
    """Tell the swapper, which learns of moments when they are first made, that files of theirs exist."""
    moments = [name for name, value in state.items() if torch.is_tensor(value)]
    state.update({name: torch.empty(size) for name in moments})  # never written to, so they take no memory
    info = swapper._get_param_swap_info(parameter)
    swapper._update_param_state_info(info, parameter)
    info.release_memory()

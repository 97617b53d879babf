"""Optimizer states on a disk: what that needs, and what DeepSpeed leaves out when such a run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rfr.errors import UserError


def offload_folder(chosen: str | None, run_dir: Path) -> Path:
    """Where a run's states go: a folder of its own, since DeepSpeed names its files by the parameters' numbers alone.

    Args:
        chosen: a folder on a fast disk; None: the run's own.

    Raises:
        UserError: it isn't there, or DeepSpeed's asynchronous reading and writing can't be built.
    """
    if chosen is not None and not Path(chosen).is_dir():
        raise UserError(
            f"strategy.nvme_path={chosen} is no folder: create it on a fast disk, or leave it out for one in the run's folder"
        )
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible(verbose=False):
        raise UserError("offloading to a disk needs the system package libaio-dev (apt-get install libaio-dev), or libaio-devel")
    return (Path(chosen) / run_dir.name if chosen else run_dir) / "offload"


def restore_resident_states(engine: Any, checkpoint: Path) -> None:
    """Bring back what was not on the disk: Adam's count of steps, rates, the loss scale, and parameters too small to swap.

    DeepSpeed (0.19) copies the files of the swapped states into place and nothing else, so a resumed run would go another way.
    """
    zero, adam = engine.optimizer, engine.optimizer.optimizer
    saved = torch.load(engine._get_zero_ckpt_name(str(checkpoint), "checkpoint"), map_location="cpu", weights_only=False)
    saved = saved["optimizer_state_dict"]
    zero._load_global_state_stage3(saved)
    zero._set_fp32_optimizer_param_groups()
    theirs = saved["optimizer_state_dict"]
    parameters = [parameter for group in adam.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        for name, value in theirs["state"][index].items():
            if parameter.numel() or not torch.is_tensor(value):  # of a swapped tensor only the name is here
                adam.state[parameter][name] = value
    for mine, group in zip(adam.param_groups, theirs["param_groups"], strict=True):
        mine.update({name: value for name, value in group.items() if name != "params"})
    zero._clear_fp32_optimizer_param_groups()
    for parameter, value in zip(zero.fp32_partitioned_groups_flat, saved["fp32_flat_groups"], strict=True):
        if parameter.numel():
            parameter.data.copy_(value)
    zero._partition_all_parameters()
    zero.reset_swap_buffers()
    zero._post_step(set())

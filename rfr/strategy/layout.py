"""How a run is spread over devices and memory: `conf/strategy/*.yaml` names one of these functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from rfr.errors import UserError
from rfr.ranges import Count, Whole
from rfr.strategy.deepspeed import CPUDeepSpeedStrategy, UncastBatchPrecision
from rfr.strategy.nvme import offload_folder
from rfr.strategy.precision import DTYPE, LIGHTNING, PURE

Device = Literal["cpu", "nvme"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a run is laid out over devices and memory.

    `dtype` is that of the parameters the model computes with; DeepSpeed makes fp32 masters from them and keeps both.
    `scratch` is the folder that holds offloaded optimizer states while the run lasts.
    """

    strategy: Strategy
    plugin: Precision
    dtype: torch.dtype
    scratch: Path | None = None


def deepspeed_zero(
    precision: str,
    run_dir: Path,
    *,
    stage: Literal[1, 2, 3],
    offload_optimizer: bool = False,
    offload_parameters: bool = False,
    offload_optimizer_device: Device = "cpu",
    nvme_path: str | None = None,
    zero: dict[str, Whole] | None = None,
    **sizes: Count,
) -> Layout:
    """DeepSpeed ZeRO.

    Args:
        stage: 1 spreads optimizer states over the ranks, 2 gradients too, 3 parameters too.
        nvme_path: a folder on a fast disk; None: the run's own.
        zero: more keys of DeepSpeed's `zero_optimization`.
        sizes: Lightning's `sub_group_size`, `allgather_bucket_size` and `reduce_bucket_size`, in elements.

    Raises:
        UserError: the folder or the system package that offloading to a disk needs is missing.
    """
    settings: dict[str, Any] = {
        "zero_allow_untested_optimizer": True,
        "logging_batch_size_per_gpu": 1,
        "stage": stage,
        "zero": zero,
        "offload_optimizer": offload_optimizer,
        "offload_parameters": offload_parameters,
        "offload_optimizer_device": offload_optimizer_device,
        **sizes,
    }
    if precision == PURE:
        raise UserError(f"precision={PURE} is for strategy=single and strategy=ddp: DeepSpeed keeps fp32 masters")
    scratch = None
    if offload_optimizer_device == "nvme":
        scratch = offload_folder(nvme_path, run_dir)
        settings["nvme_path"] = str(scratch)
    plugin = UncastBatchPrecision(LIGHTNING[precision])  # type: ignore[arg-type]
    return Layout(strategy=CPUDeepSpeedStrategy(**settings), plugin=plugin, dtype=DTYPE[precision], scratch=scratch)


def ddp(precision: str, run_dir: Path) -> Layout:
    """Torch's data parallelism: every rank holds everything."""
    return _autocast(DDPStrategy(process_group_backend=None if torch.cuda.is_available() else "gloo"), precision)


def single(precision: str, run_dir: Path) -> Layout:
    """One process, one device."""
    return _autocast(SingleDeviceStrategy(device="cuda:0" if torch.cuda.is_available() else "cpu"), precision)


def _autocast(strategy: Strategy, precision: str) -> Layout:
    """Parameters in fp32 and matrix products in less, or all in bf16.

    The plugin is made here: asked by name, Lightning would quietly compute in bf16 where fp16 is wanted on a CPU, and would round
    the story weights to bf16.
    """
    if precision in ("fp32", PURE):
        return Layout(strategy=strategy, plugin=Precision(), dtype=DTYPE[precision])
    plugin = MixedPrecision(LIGHTNING[precision], "cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
    return Layout(strategy=strategy, plugin=plugin, dtype=torch.float32)

"""Lightning's DeepSpeed strategy, on GPUs as it is and on CPUs too."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.plugins.precision import DeepSpeedPrecision, MixedPrecision, Precision
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy, Strategy
from pytorch_lightning.strategies.strategy import Strategy as BaseStrategy
from torch import Tensor

from rfr.model.precision import LIGHTNING


class BatchKeepingPrecision(DeepSpeedPrecision):
    """Leaves the batch alone: Lightning's would round the story weights to fp16."""

    def convert_input(self, data: Any) -> Any:
        return data


class DeepSpeedAnywhere(DeepSpeedStrategy):
    """DeepSpeed on CUDA as Lightning runs it; on a CPU with gloo, the local rank standing in for the device index.

    Lightning refuses CPUs in `setup_environment`, and asks the root device for an index in two more places.
    """

    def __init__(self, **settings: Any) -> None:
        if not torch.cuda.is_available():
            os.environ["DS_ACCELERATOR"] = "cpu"
            settings.setdefault("process_group_backend", "gloo")
        super().__init__(**settings)

    @property
    def _on_cpu(self) -> bool:
        return self.root_device.type == "cpu"

    def setup_environment(self) -> None:
        if not self._on_cpu:
            super().setup_environment()
        else:
            assert self.accelerator is not None
            self.accelerator.setup_device(self.root_device)
            self.setup_distributed()

    def setup_distributed(self) -> None:
        if not self._on_cpu:
            super().setup_distributed()
        else:
            self.set_world_ranks()
            self._init_deepspeed_distributed()

    def _setup_model_and_optimizer(self, model: torch.nn.Module, optimizer: Any, lr_scheduler: Any = None) -> Any:
        if not self._on_cpu:
            return super()._setup_model_and_optimizer(model, optimizer, lr_scheduler)
        import deepspeed

        engine, engine_optimizer, _, _ = deepspeed.initialize(
            args=argparse.Namespace(device_rank=self.local_rank), config=self.config, model=model,
            model_parameters=[p for p in model.parameters() if p.requires_grad], optimizer=optimizer,
            lr_scheduler=lr_scheduler, dist_init_required=False,
        )  # fmt: skip
        return engine, engine_optimizer

    def backward(self, closure_loss: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Lightning has divided the loss by the accumulation steps; DeepSpeed must not divide it again."""
        return BaseStrategy.backward(self, closure_loss, *args, scale_wrt_gas=False, **kwargs)


@contextmanager
def whole_parameters(model: torch.nn.Module) -> Iterator[None]:
    """Under ZeRO-3 every rank holds a part of each parameter; inside, all of it. Every rank must enter."""
    parameters = list(model.parameters())
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters):
        yield


def deepspeed(precision: str, **settings: Any) -> tuple[Strategy, Precision]:
    """DeepSpeed ZeRO; `settings` are those of Lightning's DeepSpeedStrategy."""
    settings = {"zero_allow_untested_optimizer": True, "logging_batch_size_per_gpu": 1, **settings}
    return DeepSpeedAnywhere(**settings), BatchKeepingPrecision(LIGHTNING[precision])  # type: ignore[arg-type]


def ddp(precision: str) -> tuple[Strategy, Precision]:
    """Torch's data parallelism: every rank holds everything."""
    return DDPStrategy(process_group_backend=None if torch.cuda.is_available() else "gloo"), _autocast(precision)


def single(precision: str) -> tuple[Strategy, Precision]:
    """One process, one device."""
    return SingleDeviceStrategy(device="cuda:0" if torch.cuda.is_available() else "cpu"), _autocast(precision)


def _autocast(precision: str) -> Precision:
    """Made here: asked by name, Lightning would quietly compute in bf16 where fp16 is wanted on a CPU."""
    return Precision() if precision == "fp32" else MixedPrecision(LIGHTNING[precision], _device())  # type: ignore[arg-type]


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"

"""Lightning's DeepSpeed strategy, on GPUs and on CPUs."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import DeepSpeedPrecision
from pytorch_lightning.strategies import DeepSpeedStrategy
from pytorch_lightning.strategies.strategy import Strategy as BaseStrategy
from torch import Tensor

from rfr.errors import as_user_error
from rfr.strategy.nvme import restore_states
from rfr.strategy.universal_checkpoint import saved_ranks, to_universal
from rfr.utils.malloc import trim_freed_memory


class UncastBatchPrecision(DeepSpeedPrecision):
    """Leaves the batch alone: Lightning's would round the story weights to fp16."""

    def convert_input(self, data: Any) -> Any:
        return data


class CPUDeepSpeedStrategy(DeepSpeedStrategy):
    """DeepSpeed on CUDA as Lightning runs it; on a CPU with gloo, the local rank standing in for the device index.

    Lightning refuses CPUs in `setup_environment`, and asks the root device for an index in two more places.
    """

    def __init__(self, zero: Mapping[str, Any] | None = None, **settings: Any) -> None:
        if not torch.cuda.is_available():
            os.environ["DS_ACCELERATOR"] = "cpu"
            # Otherwise DeepSpeed starts numactl in every step to count devices.
            os.environ.setdefault("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", "1"))
            settings.setdefault("process_group_backend", "gloo")
        super().__init__(**settings)
        from deepspeed.runtime.zero.config import DeepSpeedZeroConfig  # prints a warning unless DS_ACCELERATOR is set

        with as_user_error("strategy.zero has settings that DeepSpeed does not take", ValueError):
            DeepSpeedZeroConfig(**(zero or {}))
        assert self.config is not None
        self.config["zero_optimization"].update(zero or {})  # what Lightning has no arguments for

    @property
    def _on_cpu(self) -> bool:
        return self.root_device.type == "cpu"

    def setup(self, trainer: pl.Trainer) -> None:
        with trim_freed_memory():
            super().setup(trainer)

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
            self.barrier()
            _forget_shared_memory()

    def _setup_model_and_optimizer(self, model: torch.nn.Module, optimizer: Any, lr_scheduler: Any = None) -> Any:
        if not self._on_cpu:
            return super()._setup_model_and_optimizer(model, optimizer, lr_scheduler)
        import deepspeed

        engine, engine_optimizer, _, _ = deepspeed.initialize(
            args=argparse.Namespace(device_rank=self.local_rank),
            config=self.config,
            model=model,
            model_parameters=[p for p in model.parameters() if p.requires_grad],
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            dist_init_required=False,
        )
        return engine, engine_optimizer

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        with trim_freed_memory():
            if saved_ranks(Path(checkpoint_path)) != self.world_size:
                return self._load_from_other_ranks(Path(checkpoint_path))
            client_state = super().load_checkpoint(checkpoint_path, weights_only)
            if self.deepspeed_engine.zero_nvme_offload_optimizer():
                restore_states(self.deepspeed_engine, Path(checkpoint_path))
            return client_state

    def _load_from_other_ranks(self, checkpoint: Path) -> dict[str, Any]:
        """ZeRO's files are each one rank's; DeepSpeed's universal checkpoint has one per parameter."""
        engine, universal = self.deepspeed_engine, checkpoint.parent.with_suffix(".universal")
        if self.is_global_zero:
            to_universal(checkpoint, universal)
        self.barrier()
        engine._config.load_universal_checkpoint = True
        _, client_state = engine.load_checkpoint(str(universal.parent), tag=universal.name, load_lr_scheduler_states=False)
        engine._config.load_universal_checkpoint = False
        for state in engine.optimizer.optimizer.state.values():  # ZeRO-3 gives all of them one and the same count of steps
            state.update({name: value.clone() for name, value in state.items() if name == "step" and torch.is_tensor(value)})
        self.barrier()
        if self.is_global_zero:
            shutil.rmtree(universal)
        return client_state

    def backward(self, closure_loss: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Lightning has divided the loss by the accumulation steps; DeepSpeed must not divide it again."""
        return BaseStrategy.backward(self, closure_loss, *args, scale_wrt_gas=False, **kwargs)


def _forget_shared_memory() -> None:
    """DeepSpeed's ranks exchange through files in memory, 69 MB each, that it never removes; once open they need no names."""
    address = f"{os.environ.get('MASTER_ADDR')}_{os.environ.get('MASTER_PORT')}"
    for path in Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_*_{address}_*"):
        path.unlink(missing_ok=True)


@contextmanager
def gathered_parameters(trainer: pl.Trainer) -> Iterator[None]:
    """Under ZeRO-3 every rank holds a part of each parameter of the model; inside, all of it. Every rank must enter."""
    parameters = list(trainer.lightning_module.parameters())
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        yield
        return
    import deepspeed

    assert isinstance(trainer.strategy, DeepSpeedStrategy)
    # Validation leaves parameters that were prefetched for a backward pass; gathering fails until they are dropped.
    trainer.strategy.deepspeed_engine.empty_partition_cache()
    with deepspeed.zero.GatheredParameters(parameters):
        yield

"""The loss scale of fp16, whether a step was skipped under it, and the gradient norm."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import DeepSpeedStrategy


def loss_scale(trainer: pl.Trainer) -> float | None:
    """The factor by which the loss is multiplied before the backward pass; None without a scaler."""
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        engine: Any = trainer.strategy.deepspeed_engine
        return float(engine.optimizer.loss_scale) if engine.fp16_enabled() else None
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return None if scaler is None else float(scaler.get_scale())


def step_was_taken(trainer: pl.Trainer, scale_before: float | None) -> bool:
    """Whether the optimizer changed the parameters just now: it does not where fp16 gradients overflowed.

    Args:
        scale_before: the loss scale when the step began.
    """
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        return bool(trainer.strategy.deepspeed_engine.was_step_applied())
    scale = loss_scale(trainer)
    return scale is None or scale_before is None or scale >= scale_before  # torch lowers the scale whenever it skips


def deepspeed_grad_norm(trainer: pl.Trainer) -> float | None:
    """The gradient norm of the step just taken, before clipping; None under another strategy."""
    if not isinstance(trainer.strategy, DeepSpeedStrategy):
        return None
    norm = trainer.strategy.deepspeed_engine.get_global_grad_norm()
    return None if norm is None else float(norm)

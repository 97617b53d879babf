"""The loss scale of fp16, whether gradients overflowed under it so that a step was skipped, and the norm of the gradients."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import DeepSpeedStrategy


def loss_scale(trainer: pl.Trainer) -> float | None:
    """What the loss is multiplied with before it is differentiated; None where nothing is scaled."""
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
    """Of the step just taken, before clipping; None under another strategy."""
    if not isinstance(trainer.strategy, DeepSpeedStrategy):
        return None
    norm = trainer.strategy.deepspeed_engine.get_global_grad_norm()
    return None if norm is None else float(norm)

"""Optimizers that are not torch's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer


def cpu_adam(parameters: Iterable[Any], **settings: Any) -> Optimizer:
    """DeepSpeed's vectorised AdamW over CPU memory; compiles with g++ and ninja on first use (Rajbhandari et al. 2020)."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return DeepSpeedCPUAdam(parameters, adamw_mode=True, **settings)

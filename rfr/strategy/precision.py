"""The precisions that a processor computes in, and what `precision=auto` means on it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from rfr.errors import UserError

LIGHTNING = {"fp16": "16-mixed", "bf16": "bf16-mixed", "fp32": "32-true"}
PURE = "bf16_pure"  # parameters, gradients and optimizer states too; the others keep fp32 masters
DTYPE = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, PURE: torch.bfloat16}


def computing_in(precision: str, device: str) -> AbstractContextManager[Any]:
    """Products in this precision, parameters in fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device, DTYPE[precision])


def native_precisions() -> list[str]:
    """The precisions this machine computes natively, the preferred one first.

    fp16 on a GPU (the project's original setting), bf16 on a CPU that has it, else fp32.
    """
    if torch.cuda.is_available():
        return ["fp16", *(["bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []), "fp32"]
    flags, native = _cpu_flags(), []
    if flags & {"avx512_bf16", "amx_bf16", "bf16"}:
        native.append("bf16")
    native.append("fp32")
    if flags & {"avx512_fp16", "amx_fp16", "fphp"}:
        native.append("fp16")
    return native


def _cpu_flags() -> set[str]:
    """Instruction set names as Linux tells them; empty elsewhere (then fp32 is the safe answer)."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
    except OSError:
        return set()


def resolve_precision(name: str) -> str:
    """`auto`, fp16, bf16, bf16_pure or fp32 into one of the latter four.

    Raises:
        UserError: the processor lacks the precision asked for.
    """
    native = native_precisions()
    if name == "auto":
        return native[0]
    if (name == PURE and "bf16" not in native) or name not in (*native, PURE):
        raise UserError(f"this processor has no native {name}: choose precision=auto or one of {', '.join(native)}")
    return name

"""Compiles what the sampler does on a CPU: `kernels.cpp` for each slot, `decoders.cpp` for whole models."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

FLAGS = ["-O3", "-march=native", "-ffast-math", "-fopenmp-simd"]


def kernels_for(device: torch.device) -> Any:
    """The compiled functions; None for other devices than CPUs, and where there is no compiler."""
    return _compiled() if device.type == "cpu" else None


@cache
def _compiled() -> Any:
    """Compiled where it was not yet, which takes a minute."""
    from torch.utils.cpp_extension import load

    sources = [str(Path(__file__).with_name(name)) for name in ("kernels.cpp", "decoders.cpp")]
    try:
        return load("rfr_kernels", sources, extra_cflags=FLAGS)
    except (OSError, RuntimeError, ImportError) as error:
        print(
            f"warning: the sampler's kernels can't be compiled ({str(error).splitlines()[0][:120]}): sampling is slower",
            flush=True,
        )
        return None

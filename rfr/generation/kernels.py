"""Compiles `kernels.cpp`: what the sampler does for each slot on a CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

FLAGS = ["-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-fopenmp-simd"]


def kernels_for(device: torch.device) -> Any:
    """The module with `attend` and `draw`; None for other devices than CPUs, and where there is no compiler."""
    return _compiled() if device.type == "cpu" else None


@cache
def _compiled() -> Any:
    """Compiled where it was not yet, which takes a minute."""
    from torch.utils.cpp_extension import load

    source = Path(__file__).with_suffix(".cpp")
    try:
        return load("rfr_kernels", [str(source)], extra_cflags=FLAGS)
    except (OSError, RuntimeError, ImportError) as error:
        print(f"warning: {source.name} can't be compiled ({str(error).splitlines()[0][:120]}): sampling is slower", flush=True)
        return None

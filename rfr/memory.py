"""Memory that was freed goes back to the system at once while models are built.

glibc keeps freed blocks of up to 32 MiB for itself. That is fast in a training loop, but a model that is built, cast and handed
to an optimizer leaves gigabytes of them behind. Elsewhere than on glibc nothing happens here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

M_MMAP_THRESHOLD = -3  # malloc.h: blocks at least so large are mapped, and unmapped when freed
SMALL, USUAL = 1 << 18, 1 << 25
GIB = 2**30


@contextmanager
def frugal() -> Iterator[None]:
    """Inside, what is freed is given back at once."""
    glibc = _glibc()
    if glibc is None:
        yield
        return
    glibc.mallopt(M_MMAP_THRESHOLD, SMALL)
    try:
        yield
    finally:
        glibc.mallopt(M_MMAP_THRESHOLD, USUAL)
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def memory_gib(device: torch.device) -> float:
    """What a GPU has held at most, or what this process holds in main memory now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return float(psutil.Process().memory_info().rss / GIB)

"""Tells glibc when to return freed memory, and reads how much a process holds.

A model that is built, cast and handed to an optimizer would leave gigabytes of freed blocks behind; a training loop that gives
back and asks anew for the same blocks at every layer loses a twelfth of its speed. Elsewhere than on glibc nothing happens here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

# From malloc.h: the most bytes that stay free at the heap's end; the size from which blocks are mapped, and unmapped when
# freed; the number of heaps: the backward pass is a thread, and frees what the forward pass allocated.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
SMALL, LARGE = 1 << 18, 1 << 25
KEPT = 2**31 - 1
GIB = 2**30


@contextmanager
def trim_freed_memory() -> Iterator[None]:
    """Inside, what is freed is given back at once; afterwards it is kept."""
    glibc = _glibc()
    if glibc is None:
        yield
        return
    glibc.mallopt(M_ARENA_MAX, 1)
    glibc.mallopt(M_MMAP_THRESHOLD, SMALL)
    try:
        yield
    finally:
        glibc.mallopt(M_MMAP_THRESHOLD, LARGE)
        glibc.malloc_trim(0)
        glibc.mallopt(M_TRIM_THRESHOLD, KEPT)


def give_back_freed_memory() -> None:
    """Once: what is freed afterwards is kept, as before. For where one kind of work ends and another one begins."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def free_bytes(device: torch.device) -> int:
    """The memory that a GPU has left, with what torch holds there and does not use; or that this machine has left."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)


def memory_gib(device: torch.device) -> float:
    """The most that a GPU has held, or what this process holds in main memory now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return float(psutil.Process().memory_info().rss / GIB)

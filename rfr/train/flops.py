"""Model FLOPs utilisation (Chowdhery et al. 2022)."""

from __future__ import annotations

import time
from functools import cache
from statistics import median

import torch

# Of the matrices that are multiplied where the peak is not known; after so many seconds no further time.
SIZE, REPEATS, ENOUGH_S = 1024, 7, 0.25
# Dense products per second in 16 bits, as the makers' data sheets give them.
KNOWN = {
    "V100": 125e12,
    "T4": 65e12,
    "A100": 312e12,
    "A10": 125e12,
    "L4": 121e12,
    "H100": 989e12,
    "H200": 989e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs per second: of a known GPU in 16 bits by its name, else those of a large matrix product, measured here."""
    if device.type == "cuda" and dtype != torch.float32:
        words = torch.cuda.get_device_name(device).replace("-", " ")
        known = [value for name, value in KNOWN.items() if f" {name} " in f" {words} "]
        if known:
            return known[0]
    return measured_flops(device, dtype)


def measured_flops(device: torch.device, dtype: torch.dtype, size: int = SIZE) -> float:
    """FLOPs per second of a square matrix product, the median of several: once per process and number of threads."""
    return _measured(device, dtype, size, torch.get_num_threads())


@cache
def _measured(device: torch.device, dtype: torch.dtype, size: int, _threads: int) -> float:
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    float((a[:64] @ b)[0, 0])  # the first product of a process loads the library
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        float((a @ b)[0, 0])  # waits for a GPU
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > ENOUGH_S:  # a precision that this processor has to emulate takes seconds for one
            break
    return 2 * size**3 / median(seconds)


def training_flops_per_token(parameters: int) -> float:
    """6 N: two for the forward pass, four for the backward pass; attention and recomputation are not counted."""
    return 6.0 * parameters

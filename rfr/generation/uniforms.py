"""The random numbers of a story: they depend on the seed, the prompt and the story's number, never on what is drawn beside it."""

from __future__ import annotations

import hashlib

import numpy as np


def uniforms(seed: int, prompt: str, number: int, count: int) -> np.ndarray:
    """In [0, 1), one per token of the story; float64 of shape (count,). Of a larger count the first ones stay the same.

    Args:
        number: of the story, among those on the same prompt.
    """
    key = hashlib.blake2b(f"{seed}\n{number}\n{prompt}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).random(count)

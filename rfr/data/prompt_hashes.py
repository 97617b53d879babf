"""Hashes of prompts: a trained folder carries those that it learned from, eight bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rfr.data.split import normalise
from rfr.errors import reading

LEARNED = "learned_prompts.npy"  # in the folder of a trained model: prompts that it or its start learned from
OWN = "own_prompts.npy"  # those of its own training alone


def prompt_hash(prompt: str) -> int:
    """64 bits, the same for all spellings of a prompt."""
    return int.from_bytes(hashlib.blake2b(normalise(prompt).encode(), digest_size=8).digest(), "big")


def prompt_hashes(prompts: Iterable[str]) -> np.ndarray:
    """One per prompt, in their order; uint64."""
    known: dict[str, int] = {}
    return np.array([known.get(prompt) or known.setdefault(prompt, prompt_hash(prompt)) for prompt in prompts], np.uint64)


def learned_prompts(folder: str | Path, file: str = LEARNED) -> np.ndarray | None:
    """The hashes of the prompts that a model folder's model learned from, sorted; None where it does not say.

    Args:
        file: LEARNED, or OWN.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / file
    if not path.is_file():
        return None
    with reading(path):
        hashes = np.load(path, allow_pickle=False)
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise ValueError(f"{hashes.dtype} of shape {hashes.shape}")
    return hashes

"""Train or validation, by thread: a hash of the normalised prompt decides, so reposts share a side and growth moves nothing."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Split:
    """`validation_share` of the prompts, chosen by hash; `salt` draws another choice."""

    validation_share: float
    salt: str

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1:
            raise ValueError(f"preprocess.split.validation_share must lie between 0 and 1, not {self.validation_share}")

    def __call__(self, prompt: str) -> str:
        """`train` or `validation`."""
        digest = hashlib.sha256(f"{self.salt}\0{normalise(prompt)}".encode()).digest()
        return "validation" if int.from_bytes(digest[:8], "big") < self.validation_share * 2**64 else "train"


def normalise(prompt: str) -> str:
    """Lower-case words only: what two spellings of one prompt share."""
    return " ".join(re.findall(r"\w+", prompt.lower()))

"""Keeps apart the judge that a policy is trained against and the one that its stories are then judged by."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from pathlib import Path

import numpy as np

from rfr.data.prompt_hashes import OWN, learned_prompts, prompt_hashes
from rfr.errors import UserError


def require_independent(judges: SequenceOf[str], others: SequenceOf[str], key: str, allow: str | None) -> None:
    """Refuse others that are one of the judges, or that have learned from prompts that these learned from.

    Args:
        judges, others: folders of reward models.
        key: that names the others.
        allow: the setting that allows common prompts; None: they are allowed.

    Raises:
        UserError: they are not independent.
    """
    other_paths = {Path(folder).resolve(): folder for folder in others}
    for judge in judges:
        if (same := other_paths.get(Path(judge).resolve())) is not None:
            raise UserError(f"{key}={same} is the judge itself: give a judge that the training does not see")
    if allow is None:
        return
    for judge in judges:
        for other in others:
            if shared := _shared_prompts(judge, other):
                raise UserError(
                    f"{key}={other} and {judge} learned from {shared} common prompts, so they err alike: train them with "
                    f"preprocess.split.part=[1,2] and [2,2], or set {allow}"
                )


def _shared_prompts(one: str, other: str) -> int:
    """Those whose votes both learned from; a policy that both began with may have read all stories, but saw no votes."""
    first, second = learned_prompts(one, OWN), learned_prompts(other, OWN)
    return 0 if first is None or second is None else len(np.intersect1d(first, second))


def tell_overlap(judges: SequenceOf[str], prompts: SequenceOf[str]) -> None:
    """Print how many of the prompts that a policy writes on each judge has learned from: there it knows people's votes."""
    hashes = prompt_hashes(prompts)
    for folder in judges:
        learned = learned_prompts(folder)
        seen = "an unknown number" if learned is None else f"{int(np.isin(hashes, learned).sum()):,}"
        print(f"{folder} learned from {seen} of the {len(prompts):,} prompts that the policy writes on", flush=True)

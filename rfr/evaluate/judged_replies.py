"""Scores people's replies with judges, and finds those that a judge has learned from."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Any

import numpy as np

from rfr.data.prompt_hashes import learned_prompts, prompt_hashes
from rfr.data.story_table import StoryTable
from rfr.evaluate.judge_rules import Judge


def judged_replies(
    judge: Judge, folders: SequenceOf[str], stories: StoryTable
) -> tuple[np.ndarray, list[dict[str, Any]]]:  # fmt: skip
    """The score of each story, NaN where it lies on a prompt that one of the judges learned from; and of each judge how many of
    the prompts it has seen, None where its folder does not say what it learned from.
    """
    scores = judge(list(zip(stories.column("prompt").tolist(), stories.column("response").tolist(), strict=True)))
    prompts, overlap = prompt_hashes(stories.column("prompt")), []
    for folder in folders:
        learned = learned_prompts(folder)
        if learned is not None:
            scores = np.where(np.isin(prompts, learned), np.nan, scores)
        seen = None if learned is None else int(np.isin(np.unique(prompts), learned).sum())
        overlap.append({"judge": folder, "seen_prompts": seen, "prompts": len(np.unique(prompts))})
    return scores, overlap

"""`judge=`: loads a reward model, and finds the held-out stories that it has not seen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from rfr.data.corpus import Corpus
from rfr.data.story_table import StoryTable
from rfr.evaluate.reward_model_judge import RewardModelJudge
from rfr.model.reward_model import load_reward_model
from rfr.records import Story
from rfr.runs.folder import CONFIG, load
from rfr.train.exactness import exact_attention
from rfr.train.recipe import Recipe


def load_judge(weights: str, micro_batch: int, data_dir: str) -> RewardModelJudge:
    """The reward model in a folder."""
    model, tokenizer = load_reward_model(weights, partial(exact_attention, data_dir=data_dir))
    return RewardModelJudge(model, tokenizer, micro_batch)


def unseen(weights: str, corpus: Corpus, stories: StoryTable) -> np.ndarray:
    """Which stories the judge was not trained on; bool of shape (stories,).

    Where it was trained on this corpus, by the split of its run. What a model without a run folder was trained on is not known;
    its stories count as unseen.
    """
    run_dir = Path(weights).resolve().parent
    if not (run_dir / CONFIG).is_file():
        return np.ones(len(stories), bool)
    recipe = Recipe.of(load(run_dir))
    if recipe.corpus.name != corpus.name:
        return np.ones(len(stories), bool)
    split = recipe.preprocess.split
    return np.array([split.holds_out(story.prompt, _posted_utc(story)) for story in stories])


def _posted_utc(story: Story) -> float | None:
    """When the post was written."""
    return None if story.created_utc is None else story.created_utc - (story.delay_s or 0.0)

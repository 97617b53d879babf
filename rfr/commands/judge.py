"""`judge=`: loads reward models, and finds the held-out stories that they have not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence as SequenceOf
from functools import partial
from pathlib import Path

import numpy as np

from rfr.data.corpus import Corpus
from rfr.data.story_table import StoryTable
from rfr.errors import reading
from rfr.evaluate.reward_model_judge import Origin, RewardModelJudge
from rfr.model.reward_model import load_reward_model
from rfr.model.save import EXPORT_INFO
from rfr.records import Story
from rfr.runs.folder import CONFIG, load
from rfr.train.exactness import exact_attention
from rfr.train.recipe import Recipe


def load_judge(weights: str, tokens: int, data_dir: str) -> RewardModelJudge:
    """The reward model in a folder.

    Args:
        tokens: that it reads at once.

    Raises:
        UserError: there is none.
    """
    model, tokenizer = load_reward_model(weights, partial(exact_attention, data_dir=data_dir))
    start = getattr(model.config, "started_from", None)
    about = Origin(folder=weights, start=start, mean_score=_mean_score(weights))
    return RewardModelJudge(model, tokenizer, about, tokens)


def _mean_score(weights: str) -> float | None:
    """The mean of its scores at the validation that its folder is of; of each pair's two stories."""
    about = Path(weights) / EXPORT_INFO
    if not about.is_file():
        return None
    with reading(about):
        info = dict(json.loads(about.read_text()))
        return float(info["val/score"]) if "val/score" in info else None


def unseen(judges: SequenceOf[str], corpus: Corpus, stories: StoryTable) -> np.ndarray:
    """Which stories none of the judges was trained on; bool of shape (stories,)."""
    return np.all([np.ones(len(stories), bool), *(_unseen(folder, corpus, stories) for folder in judges)], axis=0)


def _unseen(weights: str, corpus: Corpus, stories: StoryTable) -> np.ndarray:
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

"""Loads a reward model from the folder that its training left, as a judge."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from rfr.errors import reading
from rfr.evaluate.reward_model_judge import Origin, RewardModelJudge
from rfr.model.reward_model import load_reward_model
from rfr.model.save import EXPORT_INFO
from rfr.train.exactness import exact_attention


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

"""Loads reward models from the folders that their training left, as judges."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from functools import partial
from pathlib import Path

import torch

from rfr.errors import reading
from rfr.evaluate.judge_rules import Mean
from rfr.evaluate.reward_model_judge import Origin, RewardModelJudge
from rfr.evaluate.score import JudgeScore, Score
from rfr.model.reward_model import load_reward_model
from rfr.model.save import EXPORT_INFO
from rfr.rollouts.story_writer import Judges
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


def load_judges(score: Score, watch: SequenceOf[str], quality: Callable[[str, str], float] | None, data_dir: str) -> Judges:
    """The judges that a policy is trained against and those that watch, in main memory.

    Args:
        watch: folders; several are averaged.
        quality: the true quality, where it is known.

    Raises:
        UserError: a folder holds no reward model.
    """
    loaded: dict[str, RewardModelJudge] = {}

    def load(folder: str, tokens: int) -> RewardModelJudge:
        return loaded.setdefault(folder, load_judge(folder, tokens, data_dir))

    judge = score.load(load)
    each = dict(loaded)
    watching = JudgeScore(list(watch), Mean()).load(load) if watch else None
    models = list(loaded.values())
    if isinstance(judge, RewardModelJudge) and judge not in models:  # averaged weights are a model of their own
        models.append(judge)
    for one in models:
        one.model.to(torch.device("cpu"))  # type: ignore[arg-type]  # until they are used: ranks have not chosen GPUs yet
    return Judges(score=judge, each=each, watch=watching, models=models, quality=quality)


def _mean_score(weights: str) -> float | None:
    """The mean of its scores at the validation that its folder is of; of each pair's two stories."""
    about = Path(weights) / EXPORT_INFO
    if not about.is_file():
        return None
    with reading(about):
        info = dict(json.loads(about.read_text()))
        return float(info["val/score"]) if "val/score" in info else None

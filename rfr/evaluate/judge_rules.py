"""Makes one score of what several reward models say: `conf/judge_rule/` names how."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from copy import deepcopy
from typing import ClassVar, Protocol

import numpy as np
import torch

from rfr.errors import UserError
from rfr.evaluate.reward_model_judge import Origin, RewardModelJudge, Story
from rfr.model.positions import block_of
from rfr.ranges import ZeroOrMore

Judge = Callable[[SequenceOf[Story]], np.ndarray]  # a score for each story, float64


class JudgeRule(Protocol):
    """Makes one judge of one or more; one alone is left as it is. `name` stands before the judges' folders. `makes_a_model`: of
    several models another one, which is held beside them."""

    @property
    def name(self) -> str: ...
    @property
    def makes_a_model(self) -> bool: ...

    def __call__(self, judges: SequenceOf[RewardModelJudge]) -> Judge: ...


class Mean:
    """The mean of the scores."""

    name: ClassVar[str] = "the mean"
    makes_a_model: ClassVar[bool] = False

    def __call__(self, judges: SequenceOf[RewardModelJudge]) -> Judge:
        return lambda stories: _scores(judges, stories).mean(0)


class Minimum:
    """The least of the scores (Coste et al. 2023, worst-case optimisation), each less the judge's own mean score."""

    name: ClassVar[str] = "the least"
    makes_a_model: ClassVar[bool] = False

    def __call__(self, judges: SequenceOf[RewardModelJudge]) -> Judge:
        means = _mean_scores(judges)
        return lambda stories: (_scores(judges, stories) - means).min(0)


class Spread:
    """mean - penalty * standard deviation of the scores, each less the judge's own mean score.

    As uncertainty-weighted optimisation (Coste et al. 2023), which takes the variance.

    Raises:
        UserError: the penalty is negative.
    """

    makes_a_model: ClassVar[bool] = False

    def __init__(self, penalty: ZeroOrMore = 1.0) -> None:
        if penalty < 0:
            raise UserError(f"judge_rule.penalty must be 0 or more, not {penalty}")
        self.penalty, self.name = penalty, f"the mean less {penalty:g} times the spread"

    def __call__(self, judges: SequenceOf[RewardModelJudge]) -> Judge:
        means = _mean_scores(judges)

        def score(stories: SequenceOf[Story]) -> np.ndarray:
            scores = _scores(judges, stories) - means
            return scores.mean(0) - self.penalty * scores.std(0)

        return score


class AveragedWeights:
    """One reward model whose weights are the mean of theirs (Rame et al. 2024, weight averaged reward models).

    Raises:
        UserError: they differ in shape, tokenizer, block or start, or their start is not known: their mean means nothing then.
    """

    name: ClassVar[str] = "the averaged weights"
    makes_a_model: ClassVar[bool] = True

    def __call__(self, judges: SequenceOf[RewardModelJudge]) -> Judge:
        first = judges[0]
        if len(judges) == 1:
            return first
        for other in judges[1:]:
            _require_alike(first, other)
        model, states = deepcopy(first.model), [judge.model.state_dict() for judge in judges]
        with torch.no_grad():
            for name, mean in model.state_dict().items():
                if mean.is_floating_point():
                    mean.copy_(torch.stack([state[name].double() for state in states]).mean(0))
        return RewardModelJudge(model, first.tokenizer, tokens=first.tokens)


def _scores(judges: SequenceOf[RewardModelJudge], stories: SequenceOf[Story]) -> np.ndarray:
    """Float64 of shape (judges, stories)."""
    return np.stack([judge(stories) for judge in judges])


def _mean_scores(judges: SequenceOf[RewardModelJudge]) -> np.ndarray:
    """Shape (judges, 1). A score means something only next to others of the same judge: pairs leave its zero open."""
    if len(judges) == 1:
        return np.zeros((1, 1))
    means = []
    for judge in judges:
        about = _origin(judge)
        if about.mean_score is None:
            raise UserError(
                f"judge {about.folder} does not say which score it gives on average (val/score in its rfr.json): train it again, "
                "or take judge_rule=mean"
            )
        means.append([about.mean_score])
    return np.array(means)


def _require_alike(one: RewardModelJudge, other: RewardModelJudge) -> None:
    first, second = _origin(one), _origin(other)
    shapes = [
        {name: tuple(weight.shape) for name, weight in judge.model.state_dict().items()} | {"type": type(judge.model)}
        for judge in (one, other)
    ]
    differs = (
        "shape" if shapes[0] != shapes[1]
        else "tokenizer" if one.tokenizer.get_vocab() != other.tokenizer.get_vocab()
        else "block" if block_of(one.model.config) != block_of(other.model.config)
        else "start" if first.start != second.start
        else None
    )  # fmt: skip
    if differs:
        raise UserError(f"judges {first.folder} and {second.folder} differ in {differs}: choose judge_rule=mean")
    if first.start is None:
        raise UserError(f"{first.folder} and {second.folder} don't say which weights they began with: choose judge_rule=mean")


def _origin(judge: RewardModelJudge) -> Origin:
    assert judge.about is not None
    return judge.about

"""The score by which stories are chosen: `conf/score/` names one."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import ClassVar, Protocol

from rfr.errors import UserError
from rfr.evaluate.judge_rules import Judge, JudgeRule
from rfr.evaluate.reward_model_judge import TOKENS, RewardModelJudge
from rfr.ranges import Count

LoadJudge = Callable[[str, int], RewardModelJudge]  # from a folder and the tokens to read at once


class Score(Protocol):
    """A score of stories, opened when it is needed.

    `given`: whether one was asked for. `folders`: of the reward models that it is made of. `label` and `key` name it in tables
    and in JSON.
    """

    @property
    def given(self) -> bool: ...
    @property
    def folders(self) -> tuple[str, ...]: ...
    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def key(self) -> str: ...

    def load(self, load_judge: LoadJudge) -> Judge: ...

    def require(self, prompts: SequenceOf[str]) -> None:
        """Raises UserError where stories on these prompts have no score."""
        ...


class JudgeScore:
    """The score of one reward model, or of several by a rule.

    Args:
        judge: a folder, or several; None: there is no score.
        tokens: that a judge reads at once.

    Raises:
        UserError: a folder is named twice.
    """

    label: ClassVar[str] = "reward model"
    key: ClassVar[str] = "reward_model_score"

    def __init__(self, judge: str | list[str] | None, rule: JudgeRule, tokens: Count = TOKENS) -> None:
        self.folders = (judge,) if isinstance(judge, str) else tuple(judge or ())
        self._rule, self.tokens = rule, tokens
        if len({Path(folder).resolve() for folder in self.folders}) < len(self.folders):
            raise UserError(f"judge={','.join(self.folders)} names a folder twice")

    @property
    def given(self) -> bool:
        return bool(self.folders)

    @property
    def name(self) -> str:
        folders = ", ".join(self.folders)
        return folders if len(self.folders) < 2 else f"{self._rule.name} of {folders}"

    @property
    def models(self) -> tuple[str, ...]:
        """The folder of each reward model that is held; that of averaged weights is as the first."""
        averaged = self._rule.makes_a_model and len(self.folders) > 1
        return (*self.folders, *self.folders[:averaged])

    def load(self, load_judge: LoadJudge) -> Judge:
        """Raises UserError where a folder holds no reward model, or the rule refuses them."""
        return self._rule([load_judge(folder, self.tokens) for folder in self.folders])

    def require(self, prompts: SequenceOf[str]) -> None:
        """A reward model reads whatever it is given."""

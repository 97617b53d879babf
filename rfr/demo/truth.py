"""`score=truth`: the demo's true quality in the place of a judge."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Any, ClassVar

import numpy as np

from rfr.demo.grammar import parse_prompt, true_quality
from rfr.errors import UserError


class Truth:
    """The true quality of stories on the demo's prompts, in [0, 1]: a judge that is never wrong.

    Args:
        judge: what `judge=` names; there must be none.

    Raises:
        UserError: there is a judge, too.
    """

    given: ClassVar[bool] = True
    folders: ClassVar[tuple[str, ...]] = ()
    name: ClassVar[str] = "the demo's true quality"
    label: ClassVar[str] = "true quality"
    key: ClassVar[str] = "quality"

    def __init__(self, judge: str | list[str] | None = None) -> None:
        if judge:
            raise UserError("score=truth takes the place of a judge: leave out judge=, or take score=judge")

    def load(self, load_judge: Any) -> Truth:
        """There is nothing to load."""
        return self

    def __call__(self, stories: SequenceOf[tuple[str, str]]) -> np.ndarray:
        return np.array([true_quality(prompt, response) for prompt, response in stories])

    def require(self, prompts: SequenceOf[str]) -> None:
        """Raises UserError at a prompt that is none of the demo's."""
        foreign = next((prompt for prompt in prompts if parse_prompt(prompt) is None), None)
        if foreign is not None:
            raise UserError(
                f"score=truth knows the demo's prompts only, not {foreign[:60]!r}: take score=judge judge=runs/<name>/model"
            )

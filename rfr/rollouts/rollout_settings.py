"""The settings of learning from own stories: `conf/rollouts/` names them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

from annotated_types import Ge, Lt

from rfr.errors import UserError
from rfr.generation.sampling import Sampling
from rfr.ranges import Count
from rfr.rollouts.independence import require_independent
from rfr.rollouts.shaping import KLPenalty, Shaping

WHOLE_POLICY = "set rollouts.sampling.temperature=1 rollouts.sampling.top_p=1 rollouts.sampling.top_k=0"


class HeldOut(TypedDict):
    """What the policy writes on validation prompts after each round."""

    prompts: Count
    stories: Count


def no_rollouts(steps: int | None = None, rounds: int | None = None) -> None:
    """`rollouts=none`: the policy learns from people's stories.

    Args:
        steps, rounds: what an objective suggests for own stories; not used here.
    """


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """`rollouts=own`; see `conf/rollouts/own.yaml`.

    Raises:
        UserError: the sampling is not the policy's own distribution, and a penalty is to be put on how far it is from the start.
    """

    rounds: Count
    prompts: Count
    stories: Count
    steps: Count
    selection: Literal["score", "random"]
    mix: Annotated[float, Ge(0), Lt(1)]
    shaping: dict[str, Shaping]
    held_out: HeldOut
    watch: str | list[str] | None
    patience: Count | None
    allow_overlap: bool
    offload: bool
    sampling: Sampling

    def __post_init__(self) -> None:
        if self.prompts * self.stories < self.steps:
            raise UserError(
                f"a round of {self.prompts * self.stories} stories can't be dealt over rollouts.steps={self.steps}: lower it"
            )
        if self.patience is not None and not self.watch:
            raise UserError("rollouts.patience goes by the watch judge: set rollouts.watch, or leave rollouts.patience out")
        if self.has_kl_penalty:
            self.require_whole_policy("a KL penalty")

    @property
    def has_kl_penalty(self) -> bool:
        return any(isinstance(shaping, KLPenalty) and shaping.beta > 0 for shaping in self.shaping.values())

    @property
    def in_words(self) -> str:
        """What a round is, for people."""
        shuffled = ", scores shuffled" if self.selection == "random" else ""
        of_round = f"{self.stories} on each of {self.prompts} prompts a round{shuffled}"
        return f"{of_round}, learned in {self.steps} step{'s' * (self.steps > 1)}"

    @property
    def watch_folders(self) -> tuple[str, ...]:
        return (self.watch,) if isinstance(self.watch, str) else tuple(self.watch or ())

    @property
    def people(self) -> int:
        """People's stories in a round."""
        return round(self.mix / (1 - self.mix) * self.prompts * self.stories)

    @property
    def rows_per_step(self) -> int:
        """Stories of an optimizer step, at most; people's included."""
        return math.ceil(self.prompts * self.stories / self.steps) + math.ceil(self.people / self.steps)

    def accumulate(self, micro_batch: int, ranks: int) -> int:
        """Micro-batches of a step, each of up to `micro_batch` blocks of tokens, so that the stories of any round fit."""
        return math.ceil(self.rows_per_step / (micro_batch * ranks))

    @property
    def draws_the_policy(self) -> bool:
        """Whether stories are drawn from the policy's own distribution."""
        return self.sampling.truncation == (1.0, 0, 1.0) and not self.sampling.use_generation_config

    def require_whole_policy(self, what: str) -> None:
        """Raises UserError where stories are drawn from something else than the policy's own distribution."""
        if not self.draws_the_policy:
            raise UserError(f"{what} needs stories drawn from the policy as it is: {WHOLE_POLICY}")

    def require_independent_watch(self, judges: tuple[str, ...]) -> None:
        """Raises UserError where the watch judge is one of the judges, or has learned from prompts that they learned from."""
        allow = None if self.allow_overlap else "rollouts.allow_overlap=true"
        require_independent(judges, self.watch_folders, "rollouts.watch", allow)

"""Chooses which two replies of a thread are compared, for objectives that learn from pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from rfr.errors import UserError, require_whole
from rfr.ranges import Seed, Several, ZeroOrMore


@dataclass(frozen=True, kw_only=True)
class PreferencePairs:
    """Stories in groups, and the pairs within them; int64 arrays.

    `story` holds the stories one group after the other, `group` the group of each, counting from 0. Pair p compares the
    entries `chosen[p]` and `rejected[p]` of `story`; pairs are sorted by group.
    """

    story: np.ndarray
    group: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray

    def of_groups(self, kept: np.ndarray) -> PreferencePairs:
        """Those of some groups, numbered anew.

        Args:
            kept: bool of shape (groups,).
        """
        entries = kept[self.group]
        pairs, places, groups = entries[self.chosen], np.cumsum(entries) - 1, np.cumsum(kept) - 1
        return PreferencePairs(
            story=self.story[entries],
            group=groups[self.group[entries]],
            chosen=places[self.chosen[pairs]],
            rejected=places[self.rejected[pairs]],
        )


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """All pairs of a group whose rewards are more than `margin` apart; the one with the higher reward is the chosen one.

    A thread's stories are dealt into groups of `group` or fewer, so that rows stay short. Each story is worked out once for all
    of its pairs (Ouyang et al. 2022).

    Args:
        length_ratio: the most that the longer story's tokens may be times the shorter one's; None: no limit. A pair of like
            lengths can't teach that longer is better.

    Raises:
        UserError: a margin below 0, a group of less than 2, a ratio below 1.
    """

    margin: ZeroOrMore = 0.0
    group: Several = 4
    length_ratio: Annotated[float, Ge(1)] | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        require_whole("objective.pairing.group", self.group, least=2)
        if not self.margin >= 0:
            raise UserError(f"objective.pairing.margin must be 0 or more, not {self.margin}")
        if self.length_ratio is not None and not self.length_ratio >= 1:
            raise UserError(f"objective.pairing.length_ratio must be 1 or more, not {self.length_ratio}")

    def __call__(self, rewards: np.ndarray, threads: np.ndarray, tokens: np.ndarray) -> PreferencePairs:
        """All pairs of a split.

        Args:
            rewards: one per story, float64.
            threads: the thread of each story; the stories of a thread stand one after another.
            tokens: how many each story has.

        Raises:
            UserError: a reward is NaN or infinite.
            UserError: no two stories make a pair.
        """
        if not np.isfinite(rewards).all():
            raise UserError(f"{int((~np.isfinite(rewards)).sum())} rewards are NaN or infinite: check the scores in the store")
        generator, groups = np.random.default_rng(self.seed), []
        for members in np.split(np.arange(len(threads)), np.flatnonzero(threads[1:] != threads[:-1]) + 1):
            dealt = generator.permutation(members)
            groups += [dealt[start : start + self.group] for start in range(0, len(dealt), self.group)]
        compared = (self._pairs_within(group, rewards[group], tokens[group]) for group in groups)
        usable = [group for group in compared if len(group[0])]
        if not usable:
            raise UserError(self._why_none(len(np.unique(threads)), len(threads)))
        starts = np.cumsum([0, *(len(group) for group, _, _ in usable)])
        return PreferencePairs(
            story=np.concatenate([group for group, _, _ in usable]),
            group=np.repeat(np.arange(len(usable)), np.diff(starts)),
            chosen=np.concatenate([start + chosen for start, (_, chosen, _) in zip(starts, usable, strict=False)]),
            rejected=np.concatenate([start + rejected for start, (_, _, rejected) in zip(starts, usable, strict=False)]),
        )

    def _pairs_within(
        self, group: np.ndarray, rewards: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The group without the stories that are in no pair; places in it of the chosen and of the rejected ones."""
        wanted = rewards[:, None] - rewards > self.margin
        if self.length_ratio is not None:
            wanted &= np.maximum(tokens[:, None], tokens) <= self.length_ratio * np.minimum(tokens[:, None], tokens)
        kept, members = np.unique(np.concatenate(np.nonzero(wanted)), return_inverse=True)
        chosen, rejected = members.reshape(2, -1)
        return group[kept], chosen, rejected

    def _why_none(self, threads: int, stories: int) -> str:
        if threads == stories:
            return "no thread has two replies that could be compared: take objective=rwr, which weighs them one by one"
        like = "" if self.length_ratio is None else f" and lengths within objective.pairing.length_ratio={self.length_ratio}"
        return (
            f"no two replies to one post have rewards more than objective.pairing.margin={self.margin} apart{like}: lower it, or "
            "take another reward"
        )

"""The corpora to train on: `conf/corpus/*.yaml` names one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rfr.store.store import Store


class Corpus(Protocol):
    """A store, and (prompt, response) -> true quality in [0, 1] where somebody knows it."""

    @property
    def name(self) -> str:
        """A name that no other corpus has."""
        ...

    @property
    def quality(self) -> Callable[[str, str], float] | None: ...

    @property
    def simulated(self) -> str | None:
        """Who makes its stories and its karma; None: people do."""
        ...

    @property
    def ceiling(self) -> Any:
        """The reward that knows how karma comes about: the most that a reward can recover; None where nobody knows."""
        ...

    def open(self) -> Store: ...


@dataclass(frozen=True, kw_only=True)
class StoreCorpus:
    """A store that collect.py filled. Nobody knows the true quality of its stories."""

    path: str
    quality: None = None
    simulated: None = None
    ceiling: None = None

    @property
    def name(self) -> str:
        return self.path

    def open(self) -> Store:
        return Store(self.path)

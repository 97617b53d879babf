"""Where the pairs of a run come from: `conf/corpus/*.yaml` names one of these; `open()` gives the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rfr.utils.cache import key_of
from rfr.demo.grammar import true_quality
from rfr.collect.sources import build_demo_store
from rfr.demo.subreddit import DemoSubreddit
from rfr.store.store import Store


@dataclass(frozen=True, kw_only=True)
class StoreCorpus:
    """A store that collect.py filled. Nobody knows the true quality of its stories."""

    path: str
    quality: None = None

    def open(self) -> Store:
        return Store(self.path)


@dataclass(frozen=True, kw_only=True)
class DemoCorpus:
    """The demo subreddit; its store is built once per set of parameters, under a lock."""

    folder: str
    demo: DemoSubreddit

    def open(self) -> Store:
        path = Path(self.folder) / f"rfr_demo-{key_of(asdict(self.demo))[:8]}.db"
        build_demo_store(path, self.demo)
        return Store(path)

    @property
    def quality(self) -> Callable[[str, str], float]:
        """(prompt, story) -> true quality in [0, 1]."""
        return true_quality

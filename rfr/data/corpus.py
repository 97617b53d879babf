"""Where the stories of a run come from: `conf/corpus/*.yaml` names this class or the demo's; `open()` returns the store."""

from __future__ import annotations

from dataclasses import dataclass

from rfr.store.store import Store


@dataclass(frozen=True, kw_only=True)
class StoreCorpus:
    """A store that collect.py filled. Nobody knows the true quality of its stories."""

    path: str
    quality: None = None

    def open(self) -> Store:
        return Store(self.path)

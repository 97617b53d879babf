"""The collect command: a source fills a store. Imports no torch, so that `collect.py --help` answers at once."""

from __future__ import annotations

import json

from hydra.utils import instantiate
from omegaconf import DictConfig

from rfr.config import resolve
from rfr.errors import UserError
from rfr.store import Store


def run(cfg: DictConfig) -> None:
    """Collect, then print one JSON line with what the store holds."""
    cfg = resolve(cfg)
    source = instantiate(cfg.source)
    with Store(cfg.store, write=True) as store:
        fresh = not any(store.counts().values())
        try:
            figures = source.collect(store, _progress) or {}
        except UserError:
            if fresh and not any(store.counts().values()):
                store.discard()
            raise
        print(json.dumps({"store": str(store.path), **figures, **store.counts(), "digest": store.digest()}))


def _progress(done: int) -> None:
    if done % 100 == 0:
        print(f"collected {done}", flush=True)

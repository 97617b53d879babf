"""The collect command: a mode, a source and a store. Imports no torch, so that `collect.py --help` answers at once."""

from __future__ import annotations

import json
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from rfr import config
from rfr.data.cache import key_of
from rfr.display import Display
from rfr.parts import part_of
from rfr.reddit.sources import FileSource


def run(cfg: DictConfig) -> None:
    """Do what the mode says, then print one JSON line with what the store holds."""
    cfg = config.resolve(cfg)
    mode, source = instantiate(cfg.mode), instantiate(cfg.source)
    store = Path(cfg.store)
    if HydraConfig.get().mode == RunMode.MULTIRUN and isinstance(source, FileSource):
        store = part_of(store, key_of(config.plain(cfg.source)))
    with Display() as display:
        figures = mode.run(source, store, display)
    print(json.dumps({"store": str(store), **figures}))

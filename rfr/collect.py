"""The collect command: a mode, a source and a store. Imports no torch, so that `collect.py --help` answers at once."""

from __future__ import annotations

import json
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from rfr.config import resolve
from rfr.display import Display


def run(cfg: DictConfig) -> None:
    """Do what the mode says, then print one JSON line with what the store holds."""
    cfg = resolve(cfg)
    mode, source = instantiate(cfg.mode), instantiate(cfg.source)
    with Display() as display:
        figures = mode.run(source, Path(cfg.store), display)
    print(json.dumps({"store": cfg.store, **figures}))

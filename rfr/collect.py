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
from rfr.errors import Interrupted, UserError
from rfr.parts import merge_own, part_of
from rfr.reddit.modes import Once
from rfr.reddit.sources import FileSource

MODES = ("rfr.reddit.", "rfr.export.", "rfr.purge.", "rfr.status.")  # where its modes are defined


def run(cfg: DictConfig) -> None:
    """Do what the mode says, then print one JSON line with what the store holds."""
    cfg = config.resolve(cfg)
    if not cfg.mode._target_.startswith(MODES):
        raise UserError(f"mode={HydraConfig.get().runtime.choices['mode']} is evaluate.py's: give one of collect.py's")
    mode, source = instantiate(cfg.mode), instantiate(cfg.source)
    store = Path(str(cfg.store))
    beside = HydraConfig.get().mode == RunMode.MULTIRUN and isinstance(source, FileSource) and isinstance(mode, Once)
    place = part_of(store, key_of(config.plain(cfg.source))) if beside else store
    try:
        with Display() as display:
            figures = mode.run(source, place, display)
    except KeyboardInterrupt:
        raise Interrupted("interrupted: every page that came is kept, and the same command goes on from there") from None
    except UserError:
        if beside:  # of a damaged file the part holds what came before the damage
            merge_own(store, place)
        raise
    if beside:
        merge_own(store, place)
    print(json.dumps({"store": str(store), **figures}), flush=True)  # a launcher's process may live on, and its line come last

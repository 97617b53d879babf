"""The collect command: a mode, a source and a store. It imports no torch, so `--help` answers at once."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from rfr import config
from rfr.collect.files.dumps import missing_posts
from rfr.collect.files.table_source import TableSource
from rfr.collect.modes import Once
from rfr.collect.progress import Progress
from rfr.collect.shards import merge_shard, new_shard
from rfr.collect.sources import AUTO, FileSource, Source, say
from rfr.errors import Interrupted, RunFailed, UserError
from rfr.store.store import Store
from rfr.utils.hashing import key_of
from rfr.utils.overrides import quoted
from rfr.utils.typecheck import Called

NAMED = re.compile(r"^\+*source\.columns(?:\.(\w+)=|=)(.*)$", re.DOTALL)  # an override that gives columns


def run(cfg: DictConfig) -> None:
    """Do what the mode says, then print one JSON line with what the store holds."""
    cfg = config.check_types(config.resolve(cfg), CollectConfig)
    mode, source = instantiate(cfg.mode), instantiate(cfg.source)
    if isinstance(source, TableSource):
        source = replace(source, optional=_nobody_named(list(source.columns), HydraConfig.get().overrides.task))
    store = store_path(cfg, source)
    beside = HydraConfig.get().mode == RunMode.MULTIRUN and isinstance(source, FileSource) and isinstance(mode, Once)
    target = new_shard(store, key_of(config.plain(cfg.source))) if beside else store
    try:
        with Progress() as display:
            figures = mode.run(source, target, display)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted: nothing of the table was stored; the same command begins again"
            if isinstance(source, TableSource)
            else "interrupted: every page that came is kept, and the same command goes on from there"
        ) from None
    except UserError:
        if beside:  # of a damaged file the shard holds what stands before the damage
            merge_shard(store, target)
        raise
    if beside:
        merge_shard(store, target)
    elif isinstance(mode, Once):
        _say_what_next(source, store, figures)
    # Flush: a launcher's process may live on, and its line would come last.
    print(json.dumps({"store": str(store), **figures}), flush=True)
    if not_cleaned := figures.get("not_cleaned"):
        raise RunFailed(f"could not clean {'; '.join(not_cleaned)}: remove the cause, then purge again", 1)


class CollectConfig(TypedDict):
    """`conf/collect.yaml`."""

    data_dir: str
    runs_dir: str
    store: str
    source: Called
    mode: Called


def store_path(cfg: DictConfig, source: Source) -> Path:
    """Where the store lies: as `store=` says, else in the data folder under the source's name."""
    return Path(cfg.data_dir) / f"{source.store_name()}.db" if cfg.store == AUTO else Path(cfg.store)


def _nobody_named(fields: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The fields of a table whose columns the user did not give: a preset's guess may be wrong."""
    given = [match for match in map(NAMED.match, overrides) if match]
    named = {name for match in given for name in ([match[1]] if match[1] else re.findall(r"(\w+)\s*:", match[2]))}
    return [name for name in fields if name not in named]


def _say_what_next(source: Source, store: Path, figures: dict) -> None:
    """Say which posts the store lacks; after a table, print the command that trains on it as the last line."""
    with Store(store) as opened:
        if isinstance(source, FileSource) and (lacking := missing_posts(opened)):
            say(lacking)
    if isinstance(source, TableSource):
        unscored = "" if figures["scored"] else " preprocess.scored_only=false objective=bc"
        print(f"python train.py {quoted('corpus.path', str(store))}{unscored}", file=sys.stderr, flush=True)

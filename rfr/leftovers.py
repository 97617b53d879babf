"""Files that were made from a store and may quote what was erased from it since: prepared corpora, and what runs left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rfr.errors import UserError
from rfr.fragments import Fragments

# What commands tell people in. Anything else in a run folder (weights, tokenizers, settings, stores) quotes no story, or is not
# ours to remove.
TOLD_IN = {".jsonl", ".json", ".html", ".log", ".txt", ".csv", ".md", ".wandb", ".out", ".err"}
NO_TEXT = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "config.json", "generation_config.json", "metrics.csv"}


def remove_caches(root: Path, ids: set[str]) -> Iterator[Path]:
    """Prepared corpora that hold one of these items; they are made again when they are needed.

    Raises:
        UserError: a run is preparing one just now.
    """
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        key = folder.name.removesuffix(".partial")
        try:
            with FileLock(root / f"{key}.lock", blocking=False):
                if folder.suffix != ".partial" and not any(_names(pairs, ids) for pairs in folder.rglob("pairs.arrow")):
                    continue
                shutil.rmtree(folder.resolve())
                if folder.is_symlink():
                    folder.unlink()
        except Timeout:
            raise UserError(f"a run is preparing {folder} just now: purge again when it has started to train") from None
        yield folder


def _names(pairs: Path, ids: set[str]) -> bool:
    """Whether one of these items is among the pairs, or may be, as the file can't be read."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(pairs)) as source:
            table = pa.ipc.open_file(source).read_all()
            return any(value in ids for name in ("thread_id", "reply_id") for value in table[name].to_pylist())
    except (pa.ArrowException, KeyError):
        return True


def remove_from_runs(root: Path, fragments: Fragments) -> Iterator[Path]:
    """Samples, reports, logs: of JSON lines the ones that quote an erased text go, of other files the whole file."""
    for path in sorted(set(_told(root))):
        text = path.read_bytes().decode("utf-8", "ignore")
        if not fragments.within(text):
            continue
        if path.suffix == ".jsonl":
            lines = text.split("\n")  # and at nothing else: a story may hold other line breaks
            partial = path.with_suffix(".partial")
            partial.write_text("\n".join(line for line in lines if not fragments.within(line)))
            os.replace(partial, path)
        else:
            path.unlink()
        yield path


def _told(root: Path) -> Iterator[Path]:
    """The files below a folder that people read, wherever links lead."""
    visited = set()
    for folder, below, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in visited:  # a link that leads back
            below.clear()
        visited.add(place)
        for name in names:
            path = Path(folder, name)
            told = path.suffix in TOLD_IN or "tfevents" in name
            if told and name not in NO_TEXT and path.is_file():
                yield path.resolve()

"""Finds the files that were made from a store and may quote erased texts: prepared corpora and run outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rfr.collect.quotes import QuoteFinder
from rfr.errors import UserError
from rfr.utils.files import write_atomically

# Files that people read. The other files of a run folder (weights, tokenizers, settings, stores) quote no story, or are not
# rfr's to remove.
ROUNDS = "rounds"  # the folder of the stories that a run learned from; they are Parquet
READABLE_SUFFIXES = {".jsonl", ".json", ".html", ".log", ".txt", ".csv", ".md", ".wandb", ".out", ".err", ".partial"}
NO_TEXT = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "config.json", "generation_config.json", "metrics.csv"}


def caches(root: Path) -> list[Path]:
    """The folders of prepared corpora, half prepared ones too."""
    return sorted(path for path in root.glob("*") if path.is_dir())


def remove_cache(folder: Path, ids: set[str]) -> bool:
    """Remove a prepared corpus that holds one of these items, and say so; it is made again when it is needed.

    Raises:
        UserError: a run is preparing it just now.
    """
    try:
        with FileLock(folder.parent / f"{folder.name.removesuffix('.partial')}.lock", blocking=False):
            if folder.suffix != ".partial" and not any(_names(stories, ids) for stories in folder.rglob("stories.arrow")):
                return False
            shutil.rmtree(folder.resolve())
            if folder.is_symlink():
                folder.unlink()
            return True
    except Timeout:
        raise UserError("a run is preparing it just now: purge again when it has started to train") from None


def _names(stories: Path, ids: set[str]) -> bool:
    """Whether one of these items is among the stories, or may be, as the file can't be read."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(stories)) as source:
            table = pa.ipc.open_file(source).read_all()
            return any(value in ids for name in ("thread_id", "reply_id") for value in table[name].to_pylist())
    except (pa.ArrowException, KeyError, OSError):
        return True


def remove_from(path: Path, fragments: QuoteFinder) -> bool:
    """Remove quotations of erased texts: lines of a JSON-lines file, or the whole of another file. True if anything went."""
    text = _text_of_round(path) if ".parquet" in path.suffixes else path.read_bytes().decode("utf-8", "ignore")
    if text is not None and not fragments.found_in(text):
        return False
    if text is not None and path.suffix == ".jsonl":
        lines = text.split("\n")  # not splitlines(): a story may hold other line breaks
        write_atomically(path, "\n".join(line for line in lines if not fragments.found_in(line)))
    else:
        path.unlink()
    return True


def _text_of_round(path: Path) -> str | None:
    """The prompts and stories of a round; None where the file can't be read, so that nobody knows what it quotes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        return None
    texts = (table[field.name].to_pylist() for field in table.schema if field.type == pa.string())
    return "\n".join(text for column in texts for text in column)


def readable_files(root: Path) -> list[Path]:
    """Samples, reports, logs: the files below a folder that people read, wherever links lead."""
    return sorted(set(_readable_paths(root)))


def _readable_paths(root: Path) -> Iterator[Path]:
    visited = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real_folder = os.path.realpath(folder)
        if real_folder in visited:  # a link to a folder above it
            below.clear()
        visited.add(real_folder)
        for name in names:
            path = Path(folder, name)
            is_round = ".parquet" in path.suffixes and path.parent.name == ROUNDS
            is_readable = path.suffix in READABLE_SUFFIXES or "tfevents" in name or is_round
            if is_readable and name not in NO_TEXT and path.is_file():
                yield path.resolve()

"""The first look at a corpus: every reply cleaned, or the reason against it, and stories that repeat others marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from more_itertools import chunked

from rfr.arrow import schema_of
from rfr.data.duplicates import HASHES, repeated, signature
from rfr.data.pairs import thread_pairs
from rfr.data.stories import column, read_rows, writing
from rfr.records import Pair
from rfr.store import Store

SPLITS = ("train", "validation")
THREADS = 50  # in memory at once
REPEATS, REPEATS_VALIDATION = "repeats another story", "repeats a story of the validation split"
_COLUMNS = schema_of(Pair, reason="str | None")
_PAIRS, _SIGNATURES = "judged.arrow", "signatures.bin"


def judge(store: Store, clean: Callable[[Pair], Pair | str], split: Callable[[str], str], folder: Path) -> None:
    """Every reply of a store into the files of its split: cleaned, or as it was with the reason against it."""
    with ExitStack() as files:
        writers = {name: files.enter_context(writing(folder / name / _PAIRS, _COLUMNS)) for name in SPLITS}
        signatures = {name: files.enter_context((folder / name / _SIGNATURES).open("wb")) for name in SPLITS}
        for threads in chunked(store.threads(), THREADS):
            rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
            for thread in threads:
                rows[split(thread.post.title)] += [_verdict(clean, pair, reason) for pair, reason in thread_pairs(thread)]
            for name in SPLITS:
                writers[name](rows[name])
                signatures[name].writelines(_signature(row).tobytes() for row in rows[name])


def _verdict(clean: Callable[[Pair], Pair | str], pair: Pair, reason: str | None) -> dict[str, Any]:
    cleaned = reason or clean(pair)
    return vars(pair) | {"reason": cleaned} if isinstance(cleaned, str) else vars(cleaned) | {"reason": None}


def _signature(row: dict[str, Any]) -> np.ndarray:
    return np.zeros(HASHES, np.uint32) if row["reason"] else signature(row["response"])


def mark_repeats(folder: Path) -> None:
    """Leave `repeats.npy` in each split's folder: for each of its judged rows 1 where it repeats a story, 2 one of validation.

    Of two alike stories the one of the validation split stays, within a split the earlier one; so a growing store changes no
    decision that was made.
    """
    counts, kept, ranks, signatures = [], [], [], []
    for number, name in enumerate(reversed(SPLITS)):  # validation before training
        ids, times = column(folder / name / _PAIRS, "reply_id"), column(folder / name / _PAIRS, "created_utc")
        times = np.where(np.isnan(times.astype(float)), np.inf, times.astype(float))
        counts.append(len(ids))
        kept.append(column(folder / name / _PAIRS, "reason") == None)  # noqa: E711 (of each row)
        ranks.append((np.full(len(ids), number), times, ids.astype(str)))
        place = folder / name / _SIGNATURES
        signatures.append(np.fromfile(place, np.uint32).reshape(-1, HASHES))
        place.unlink()
    split, time, reply = (np.concatenate(parts) for parts in zip(*ranks, strict=True))
    wanted = np.flatnonzero(np.concatenate(kept))
    rank = np.empty(len(wanted), np.int64)
    rank[np.lexsort((reply[wanted], time[wanted], split[wanted]))] = np.arange(len(wanted))
    repeats = repeated(np.concatenate(signatures)[wanted], rank)
    marks = np.zeros(sum(counts), np.int8)
    found = np.flatnonzero(repeats >= 0)
    marks[wanted[found]] = 1 + ((split[wanted[found]] == 1) & (split[wanted[repeats[found]]] == 0))
    for name, part in zip(reversed(SPLITS), np.split(marks, np.cumsum(counts)[:-1]), strict=True):
        np.save(folder / name / "repeats.npy", part)


def judged(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """The judged rows of a split, in batches: a pair's fields and the `reason` against it, or None."""
    repeats, start = np.load(folder / "repeats.npy"), 0
    for rows in read_rows(folder / _PAIRS):
        for row, mark in zip(rows, repeats[start : start + len(rows)], strict=True):
            if mark:
                row["reason"] = REPEATS_VALIDATION if mark == 2 else REPEATS
        start += len(rows)
        yield rows


def forget(folder: Path) -> None:
    """Remove what judging left in a split's folder."""
    for name in (_PAIRS, "repeats.npy"):
        (folder / name).unlink()

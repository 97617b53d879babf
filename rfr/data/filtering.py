"""The filter of replies: cleans each or gives the reason to leave it out, and flags stories that repeat others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from more_itertools import constrained_batches

from rfr.data.clean.near_duplicates import HASHES, repeated, signature
from rfr.data.prompt_hashes import prompt_hash
from rfr.data.replies import MIN_AGE_H, is_too_young, thread_stories
from rfr.data.split import SPLITS, Split
from rfr.data.story_table import read_rows, writing
from rfr.records import Story, Thread
from rfr.store.store import Store
from rfr.utils.arrow import schema_of
from rfr.utils.parallel import ordered_map

NO_SCORE = "no score"
DUPLICATE_REASONS = (
    "",
    "repeats another story",
    "repeats a story of the validation split",
    "its prompt is one of the validation split's",
)
TRAIN, VALIDATION = range(len(SPLITS))
LOT_CHARACTERS = 1_000_000  # that one process filters at once
_COLUMNS = schema_of(Story, reason="str | None")
_REPLIES, _TRACES, _DUPLICATES = "replies.arrow", "traces.bin", "duplicates.npy"
_SCORES = "scores.json"
# Kept for every reply of both splits until all replies have been read: duplicates can only be found then.
_TRACE = np.dtype([("split", "u1"), ("kept", "?"), ("time", "f8"), ("prompt", "u8"), ("hashes", "u4", (HASHES,))])


@dataclass(frozen=True, kw_only=True)
class ReplyFilter:
    """Turns a reply into a story, or into the reason why it is left out; see `conf/_base/preprocess.yaml`."""

    clean: Callable[[Story], Story | str]
    split: Split
    scored_only: bool = True
    min_age_h: float = MIN_AGE_H

    def __call__(self, store: Store, folder: Path) -> None:
        """Write every reply of a store into the files of its split, also replies without a post; count the scores too young."""
        scores = np.zeros((len(SPLITS), 2), np.int64)
        with ExitStack() as files:
            write = [files.enter_context(writing(folder / name / _REPLIES, _COLUMNS)) for name in SPLITS]
            traces = files.enter_context((folder / _TRACES).open("wb"))
            threads = chain(store.threads(), store.threads_without_post())
            lots = constrained_batches(
                threads, LOT_CHARACTERS, get_len=lambda thread: sum(len(reply.body) for reply in thread.replies), strict=False
            )
            for trace, rows, lot_scores in ordered_map(partial(_filter_threads, self), lots):
                traces.write(trace.tobytes())
                scores += lot_scores
                for split in (TRAIN, VALIDATION):
                    write[split](rows[split])
        for name, (known, too_young) in zip(SPLITS, scores.tolist(), strict=True):
            (folder / name / _SCORES).write_text(json.dumps({"known": known, "too_young": too_young}))
        _flag_duplicates(folder)

    def apply(self, story: Story, reason: str | None) -> dict[str, Any]:
        """The story's fields and the `reason` to leave it out; cleaned, and the reason None, where it is kept."""
        if reason is None and self.scored_only and story.score is None:
            reason = NO_SCORE
        cleaned = reason or self.clean(story)
        return vars(story) | {"reason": cleaned} if isinstance(cleaned, str) else vars(cleaned) | {"reason": None}


def _filter_threads(
    reply_filter: ReplyFilter, threads: tuple[Thread, ...]
) -> tuple[np.ndarray, tuple[list[dict[str, Any]], list[dict[str, Any]]], np.ndarray]:
    """For these threads: the traces of their replies, the rows of each split, and each split's (known scores, too young ones)."""
    traces: list[tuple] = []
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    scores = np.zeros((len(SPLITS), 2), np.int64)
    for thread in threads:
        name, unfit = reply_filter.split(thread.post) if thread.post.title else (SPLITS[TRAIN], None)
        split, prompt = SPLITS.index(name), prompt_hash(thread.post.title)
        scores[split] += (
            len(thread.observations),
            sum(
                is_too_young(thread.observations.get(reply.id), reply, 3600 * reply_filter.min_age_h) for reply in thread.replies
            ),
        )
        for story, reason in thread_stories(thread, reply_filter.min_age_h):
            row = reply_filter.apply(story, reason or unfit)
            kept, time = row["reason"] is None, np.inf if story.created_utc is None else story.created_utc
            traces.append((split, kept, time, prompt, signature(row["response"]) if kept else 0))
            rows[split].append(row)
    return np.array(traces, _TRACE), rows, scores


def _flag_duplicates(folder: Path) -> None:
    """Save a flag for each row of each split: an index into DUPLICATE_REASONS.

    Of two alike stories, the one in the validation split is kept; within a split, the earlier one. So a store that grows
    changes no earlier decision.
    """
    path = folder / _TRACES
    traces = np.memmap(path, _TRACE, mode="r") if path.stat().st_size else np.zeros(0, _TRACE)
    split, prompt = np.array(traces["split"]), np.array(traces["prompt"])
    kept = np.flatnonzero(traces["kept"])
    order = kept[np.lexsort((traces["time"][kept], split[kept] == TRAIN))]
    repeats = repeated(traces["hashes"], order)
    flags = np.zeros(len(traces), np.int8)
    again = np.flatnonzero(repeats >= 0)
    across = (split[order[again]] == TRAIN) & (split[order[repeats[again]]] == VALIDATION)
    flags[order[again]] = 1 + across
    # Only a cutoff date puts one prompt into both splits.
    flags[(split == TRAIN) & np.isin(prompt, prompt[split == VALIDATION])] = 3
    for number, name in enumerate(SPLITS):
        np.save(folder / name / _DUPLICATES, flags[split == number])
    path.unlink()


def read_filtered(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """The filtered rows of a split, in batches: a story's fields and the `reason` to leave it out, or None."""
    flags, start = np.load(folder / _DUPLICATES), 0
    for rows in read_rows(folder / _REPLIES):
        for row, flag in zip(rows, flags[start : start + len(rows)], strict=True):
            row["reason"] = row["reason"] or DUPLICATE_REASONS[flag] or None
        start += len(rows)
        yield rows


def score_counts(folder: Path) -> dict[str, int]:
    """Count a split's `known` scores, and those among them that are `too_young` to be karma."""
    return json.loads((folder / _SCORES).read_text())


def remove_files(folder: Path) -> None:
    """Remove the filter's files from a split's folder."""
    for name in (_REPLIES, _DUPLICATES, _SCORES):
        (folder / name).unlink()

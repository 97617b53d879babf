"""Measures whether a policy reads its prompt: is a story likelier after its own prompt than after others?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rfr.data.pack.best_fit import Placement
from rfr.data.pack.rows import PackedRows
from rfr.errors import UserError
from rfr.utils.intervals import ratio_interval


def without_prompts(rows: PackedRows) -> PackedRows:
    """The same stories, in the same rows, after the end of a prompt alone: what is likely about them whatever was asked."""
    stories = np.array(rows.stories)
    stories[:, 0] = stories[:, 1] - 1
    return replace(rows, stories=stories)


def among_other_prompts(rows: PackedRows, chosen: np.ndarray, threads: np.ndarray, candidates: int, seed: int) -> PackedRows:
    """Each chosen story after its own prompt, and then after `candidates` - 1 of other threads, one document to a row.

    A story that is too long for one row behind the longest of these prompts is cut to the beginning that fits.

    Args:
        chosen: indices of the stories.
        threads: the thread's number of each story of the split; int array.

    Raises:
        UserError: there are fewer threads than candidates.
    """
    first_of_thread = np.unique(threads, return_index=True)[1]
    if len(first_of_thread) < candidates:
        raise UserError(f"{candidates} prompts to choose from, and there are {len(first_of_thread)}: lower ranking.candidates")
    generator, tokens, ranges, start = np.random.default_rng(seed), [], [], 0
    for story in chosen:
        others = first_of_thread[threads[first_of_thread] != threads[story]]
        asked = [story, *generator.choice(others, candidates - 1, replace=False)]
        prompts = [rows.tokens[rows.stories[other][0] : rows.stories[other][1]] for other in asked]
        _, begins, ends = rows.stories[story]
        beginning = rows.tokens[begins:ends][: rows.block - max(map(len, prompts))]
        for prompt in prompts:
            ranges.append((start, start + len(prompt), start + len(prompt) + len(beginning)))
            tokens += [prompt, beginning]
            start = ranges[-1][2]
    each, stories = np.arange(len(ranges)), np.array(ranges)
    plan = Placement(story=each, start=np.zeros_like(each), end=stories[:, 2] - stories[:, 1], row=each)
    return replace(rows, tokens=np.concatenate(tokens), stories=stories, pieces=plan, packed=False)


def own_prompt_first(nll_sums: np.ndarray, threads: np.ndarray, candidates: int) -> dict[str, float | int | None]:
    """How often the own prompt is the likeliest of all (Fan et al. 2018), a 95 % interval over threads, and what chance gives.

    Args:
        nll_sums: of the rows of `among_other_prompts`, shape (stories * candidates,).
        threads: the thread's number of each chosen story.
    """
    by_story = nll_sums.reshape(-1, candidates)
    hits = by_story[:, 0] < by_story[:, 1:].min(axis=1)
    _, group = np.unique(threads, return_inverse=True)
    low, high = ratio_interval(np.bincount(group, hits), np.bincount(group), share=True)
    figures = {"accuracy": float(hits.mean()), "low": low, "high": high, "chance": 1 / candidates}
    return {**figures, "stories": len(hits), "threads": int(group.max()) + 1}

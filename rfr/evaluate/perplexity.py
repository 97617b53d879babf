"""The negative log-likelihood of held-out stories, per token, per word and per story."""

from __future__ import annotations

import math
from collections.abc import Sequence as SequenceOf

import numpy as np
import torch
from transformers import PreTrainedModel

from rfr.data.batches import WeightedRows
from rfr.data.loader import ValidationBatches
from rfr.data.pack.rows import PackedRows
from rfr.model.attention import hidden_states
from rfr.records import IGNORE, Story
from rfr.reward.base import mid_ranks, scores
from rfr.utils.intervals import ratio_interval


def story_nll(model: PreTrainedModel, rows: PackedRows, micro_batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Summed -log p and number of target tokens of every story; two float64 arrays of shape (stories,)."""
    stories, (nll, tokens) = len(rows.stories), piece_nll(model, rows, micro_batch)
    return np.bincount(rows.pieces.story, nll, stories), np.bincount(rows.pieces.story, tokens, stories)


@torch.no_grad()
def piece_nll(model: PreTrainedModel, rows: PackedRows, micro_batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Summed -log p and number of target tokens of every piece; two float64 arrays of shape (pieces,)."""
    batches = ValidationBatches(WeightedRows(rows), micro_batch=micro_batch, rank=0, ranks=1)
    sums, counts = [], []
    for index in range(len(batches)):
        batch = batches[index].to(model.device)
        is_target_BT = batch.labels_BT != IGNORE
        labels_N = batch.labels_BT[is_target_BT]
        hidden_ND = hidden_states(model, batch)[is_target_BT]
        _, nll_N = model.get_output_embeddings()(hidden_ND, labels_N, torch.zeros_like(labels_N, dtype=torch.float32))
        row_N, documents = torch.nonzero(is_target_BT)[:, 0], int(batch.documents_BT.max()) + 1
        place_N = (row_N * documents + batch.documents_BT[is_target_BT]).cpu().numpy()
        piece_N = np.unique(place_N, return_inverse=True)[1]  # the pieces stand in the rows in ascending order
        sums.append(np.bincount(piece_N, nll_N.double().cpu().numpy()))
        counts.append(np.bincount(piece_N).astype(np.float64))
    return np.concatenate(sums), np.concatenate(counts)


def nll_by_karma(nll_sums: np.ndarray, tokens: np.ndarray, threads: SequenceOf[SequenceOf[Story]]) -> dict[str, float | None]:
    """NLL per token of the stories that their thread's readers liked best, its upper quarter, and of its lower quarter.

    Taken over threads that have both; 95 % intervals over threads. Empty where no thread has both.

    Args:
        threads: all stories, in the order of the other two.
    """
    ranks = [mid_ranks(scores(thread)) if all(story.score is not None for story in thread) else None for thread in threads]
    thread = np.repeat(np.arange(len(threads)), [len(thread) for thread in threads])
    rank = np.concatenate([np.full(len(t), 0.5) if r is None else r for t, r in zip(threads, ranks, strict=True)])
    ends = {"top": rank >= 0.75, "bottom": rank <= 0.25}
    with_both = np.intersect1d(thread[ends["top"]], thread[ends["bottom"]])
    figures: dict[str, float | None] = {}
    for name, chosen in ends.items() if len(with_both) else ():
        chosen = chosen & np.isin(thread, with_both)
        sums, sizes = (np.bincount(thread[chosen], values[chosen], len(threads)) for values in (nll_sums, tokens))
        low, high = ratio_interval(sums, sizes)
        figures |= {name: float(sums.sum() / sizes.sum()), f"{name}_low": low, f"{name}_high": high}
    return figures


def perplexity(nll_sums: np.ndarray, tokens: np.ndarray, stories: SequenceOf[Story]) -> dict[str, float]:
    """Per token and per word (Fan et al. 2018 count words; the end-of-text token's share is included)."""
    words = sum(len(story.response.split()) for story in stories)
    total = float(nll_sums.sum())
    return {
        "nll_per_token": total / float(tokens.sum()),
        "perplexity_per_token": math.exp(total / float(tokens.sum())),
        "perplexity_per_word": math.exp(total / words),
    }

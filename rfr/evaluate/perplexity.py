"""Log-likelihood of held-out stories, per token, per word and per story."""

from __future__ import annotations

import math
from collections.abc import Sequence as SequenceOf

import numpy as np
import torch
from transformers import PreTrainedModel

from rfr.data.module import ValidationBatches
from rfr.data.rows import PackedRows
from rfr.model.module import hidden_states
from rfr.records import IGNORE, Pair


@torch.no_grad()
def story_nll(model: PreTrainedModel, rows: PackedRows, micro_batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Summed -log p and number of target tokens of every story; two float64 arrays of shape (stories,)."""
    stories = len(rows.stories)
    nll_sums, tokens = np.zeros(stories), np.zeros(stories)
    batches, model = ValidationBatches(rows, micro_batch=micro_batch, rank=0, ranks=1), model.eval()
    for index in range(len(batches)):
        batch = batches[index].to(model.device)
        is_target_BT = batch.labels_BT != IGNORE
        hidden_ND = hidden_states(model, batch)[is_target_BT]
        labels_N = batch.labels_BT[is_target_BT]
        _, nll = model.get_output_embeddings()(hidden_ND, labels_N, torch.ones_like(labels_N, dtype=torch.float32))
        start = index * micro_batch
        mine = is_target_BT.cpu().numpy()
        chosen = np.arange(start, min(start + micro_batch, len(rows)))
        owner = rows.take(chosen).stories[mine[: len(chosen)]]
        nll_sums += np.bincount(owner, nll.double().cpu().numpy(), minlength=stories)
        tokens += np.bincount(owner, minlength=stories)
    return nll_sums, tokens


def perplexity(nll_sums: np.ndarray, tokens: np.ndarray, pairs: SequenceOf[Pair]) -> dict[str, float]:
    """Per token and per word (Fan et al. 2018 count words; the end-of-text token's share is included)."""
    words = sum(len(pair.response.split()) for pair in pairs)
    total = float(nll_sums.sum())
    return {
        "nll_per_token": total / float(tokens.sum()),
        "perplexity_per_token": math.exp(total / float(tokens.sum())),
        "perplexity_per_word": math.exp(total / words),
    }

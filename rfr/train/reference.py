"""The log-probabilities of stories under the reference policy, computed once and cached."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from rfr.data.pack.rows import PackedRows
from rfr.evaluate.perplexity import piece_nll
from rfr.strategy.precision import DTYPE, computing_in
from rfr.utils.cache import build_once
from rfr.utils.hashing import key_of

FORMAT = 1  # raise when what is kept changes
FILE = "log_probabilities.npy"
SLICE_ELEMENTS = 1 << 24  # elements hashed at once: tokens are memory-mapped


class ReferenceLogProbs:
    """Rows -> of each piece's targets the log-probability, summed; float64.

    In the precision of the training, so that both begin alike. Each rank asks; the first works it out for its machine, on its GPU
    where it has one, which must hold the whole model.
    """

    def __init__(self, model: PreTrainedModel, precision: str, cache_root: Path) -> None:
        self._model, self._cache_root = model, cache_root
        self._precision = "fp32" if model.dtype == DTYPE[precision] else precision
        weights = [tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy() for tensor in model.state_dict().values()]
        self._policy = FORMAT, precision, model.config.to_diff_dict(), _hash(weights)

    def __call__(self, rows: PackedRows) -> np.ndarray:
        pieces = rows.pieces
        read = _hash([rows.tokens, rows.stories, pieces.story, pieces.start, pieces.end, pieces.row])
        key = key_of("reference", self._policy, read)
        return np.load(build_once(self._cache_root, key, lambda folder: self._compute(rows, folder)) / FILE)

    def _compute(self, rows: PackedRows, folder: Path) -> None:
        print(f"computing how likely {len(rows.pieces.story):,} stories are before training, once ...", flush=True)
        model, device = self._model, torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))))
        was_training = model.training
        with computing_in(self._precision, device.type):
            nll, _ = piece_nll(model.to(device).eval(), rows, micro_batch=1)  # type: ignore[arg-type]
        np.save(folder / FILE, -nll)
        model.to("cpu").train(was_training)  # type: ignore[arg-type]
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _hash(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        flat = array.reshape(-1)
        for start in range(0, len(flat), SLICE_ELEMENTS):
            digest.update(np.ascontiguousarray(flat[start : start + SLICE_ELEMENTS]).data)
    return digest.hexdigest()

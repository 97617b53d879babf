"""How likely stories were under the policy that training began with, worked out once and kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from rfr.data.cache import cached, key_of
from rfr.data.rows import PackedRows
from rfr.evaluate.perplexity import piece_nll
from rfr.model.precision import DTYPE, computing_in

FILE = "log_probabilities.npy"


def log_probabilities(model: PreTrainedModel, precision: str, cache_root: Path, rows: PackedRows) -> np.ndarray:
    """Of each piece's targets, summed; float64. In the precision of the training, so that both begin alike."""
    key = key_of("reference", precision, _hash(*model.state_dict().values()), _hash(*_what_is_read(rows)))

    def build(folder: Path) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with computing_in("fp32" if model.dtype == DTYPE[precision] else precision, device.type):
            nll, _ = piece_nll(model.to(device), rows, micro_batch=1)  # type: ignore[arg-type]
        np.save(folder / FILE, -nll)
        model.to("cpu")  # type: ignore[arg-type]

    return np.load(cached(cache_root, key, build) / FILE)


def _what_is_read(rows: PackedRows) -> list[torch.Tensor]:
    pieces = rows.pieces
    arrays = (rows.tokens, rows.stories, pieces.story, pieces.start, pieces.end, pieces.row)
    return [torch.from_numpy(np.array(array)) for array in arrays]


def _hash(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

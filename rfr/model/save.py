"""Saves a trained model as a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.errors import UserError
from rfr.utils.files import new_folder

EXPORT_INFO = "rfr.json"  # in an exported folder: the step, and the policy's figures


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    info: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """A Hugging Face folder, complete or absent, with what is to be told of it in `rfr.json`.

    Args:
        arrays: by the names of the files that hold them beside the weights.

    Raises:
        UserError: the folder can't be written.
    """
    try:
        with new_folder(folder) as partial:
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            (partial / EXPORT_INFO).write_text(json.dumps(info, indent=2) + "\n")
            for name, array in arrays.items():
                np.save(partial / name, array)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"can't write the model to {folder} ({error}): make room and go on with resume={folder.parent}"
        ) from error

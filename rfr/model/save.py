"""Saves a trained model as a Hugging Face folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.errors import UserError

EXPORT_INFO = "rfr.json"  # in an exported folder: the step and how well the policy does


def export(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, info: dict[str, Any]) -> None:
    """A Hugging Face folder, complete or absent, with what is to be told of it in `rfr.json`.

    Raises:
        UserError: there was no room.
    """
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / EXPORT_INFO).write_text(json.dumps(info, indent=2) + "\n")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"can't write the model to {folder} ({error}): make room and go on with resume={folder.parent}"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)

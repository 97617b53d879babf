"""Silences what libraries print beside rfr."""

from __future__ import annotations

import logging
import os
import warnings

import torch
import transformers.utils.logging


def silence_libraries() -> None:
    """Libraries' chatter off; warnings about our own choices off; errors stay."""
    transformers.utils.logging.disable_progress_bar()
    for name in ("pytorch_lightning", "lightning.pytorch", "DeepSpeed", "deepspeed", "transformers", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*is deprecated. Please use", category=FutureWarning)  # DeepSpeed's calls of torch
    if not torch.cuda.is_available():
        # Else DeepSpeed, which other libraries import, warns that it found no accelerator.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # Where it is not set, the first fork switches it off and prints a warning.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

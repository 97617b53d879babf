"""Converts DeepSpeed checkpoints so that any number of ranks can resume from them."""

from __future__ import annotations

import contextlib
import io
import shutil
from argparse import Namespace
from pathlib import Path

TAG = "checkpoint"  # the folder that Lightning has DeepSpeed write into


def saved_ranks(checkpoint: Path) -> int:
    """How many ranks wrote a DeepSpeed checkpoint: each has left its part of the optimizer's states."""
    return len(list((checkpoint / TAG).glob("*_optim_states.pt")))


def to_universal(checkpoint: Path, folder: Path) -> None:
    """The same as a universal checkpoint: a file for each parameter and for each of its moments."""
    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(folder, ignore_errors=True)
    arguments = Namespace(
        input_folder=str(checkpoint / TAG),
        output_folder=str(folder),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ds_to_universal.main(arguments)
    (folder.parent / "latest_universal").unlink(missing_ok=True)

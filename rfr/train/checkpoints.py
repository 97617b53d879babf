"""Checkpoints: folders `step-N`, complete or absent, with a manifest that shows damage."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback
from transformers import PreTrainedModel

from rfr.errors import UserError
from rfr.strategy.ranks import ranks
from rfr.utils.files import discard, new_folder, partial_of

STATE, FINGERPRINT, MANIFEST = "state", "about.json", "manifest.json"
STEP_FOLDER = re.compile(r"step-(\d+)")
TORCH_CANT_WRITE = ("inline_container", "PytorchStreamWriter")  # words of the RuntimeError that torch raises where it can't write
READ_BYTES = 1 << 24


class Checkpoints(Callback):
    """Save every so many steps, when the run stops and when it ends; the newest `keep` stay.

    Where validation is due too, it comes first: a run that is killed in it goes back and validates again.
    """

    def __init__(self, folder: Path, *, every_n_steps: int, validate_every: int, keep: int, fingerprint: dict[str, Any]) -> None:
        self._folder, self._every, self._keep, self._fingerprint = folder, every_n_steps, keep, fingerprint
        self._validate_every = validate_every
        self._last_saved = -1

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        """Loggers hear of a step after it was saved: tell them again what a kill in between may have cost them."""
        if trainer.ckpt_path is not None:
            saved = json.loads((Path(trainer.ckpt_path).parent / FINGERPRINT).read_text())
            for logger in trainer.loggers:
                logger.log_metrics(saved["metrics"], trainer.global_step - 1)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Not when fit ends: by then Lightning counts the epoch as done and would not go on with it.
        step = trainer.global_step
        due = (step % self._every == 0 or trainer.should_stop) and step % self._validate_every
        if due and max(0, self._last_saved) < step < trainer.max_steps and not inside_accumulation(trainer):
            self.save(trainer, {name: value for name, value in trainer.callback_metrics.items() if not name.startswith("val/")})

    def on_validation_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        due = trainer.global_step % self._every == 0 or trainer.global_step == trainer.max_steps or trainer.should_stop
        if due and trainer.global_step > self._last_saved and not trainer.sanity_checking:
            self.save(trainer, trainer.callback_metrics)

    def save(self, trainer: pl.Trainer, metrics: Mapping[str, torch.Tensor]) -> None:
        """Write a checkpoint beside the others, then put it into its place.

        Raises:
            UserError: there was no room; what was saved before is still there.
        """
        target = self._folder / f"step-{trainer.global_step:08d}"
        first = trainer.is_global_zero
        try:
            with new_folder(target) if first else nullcontext(partial_of(target)) as partial:
                self._write(trainer, partial, {name: float(value) for name, value in metrics.items()})
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError where the disk is full
            discard(partial_of(target))
            self._give_up(target, error)
        if first:
            for old in checkpoints(self._folder)[: -self._keep]:
                shutil.rmtree(old)
        self._last_saved = trainer.global_step

    def _write(self, trainer: pl.Trainer, partial: Path, metrics: dict[str, float]) -> None:
        trainer.strategy.barrier()
        trainer.save_checkpoint(partial / STATE)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            (partial / FINGERPRINT).write_text(json.dumps(self._fingerprint | {"metrics": metrics}))
            write_manifest(partial)

    def _give_up(self, target: Path, error: Exception) -> None:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in TORCH_CANT_WRITE):
            raise error
        kept = checkpoints(self._folder)
        advice = (
            f"{kept[-1].name} is whole, so make room and go on with resume=" if kept else "there is none before it: make room"
        )
        reason = getattr(error, "strerror", None) or "is the disk full?"
        raise UserError(f"can't write the checkpoint {target.name} ({reason}); {advice}") from error


class StreamedCheckpointIO(TorchCheckpointIO):
    """Straight to the file and mapped back from it; Lightning's own holds a whole second copy in memory."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        torch.save(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=bool(weights_only))


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if STEP_FOLDER.fullmatch(path.name))


def step_of(checkpoint: Path) -> int:
    match = STEP_FOLDER.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def latest_intact(folder: Path) -> Path | None:
    """The newest checkpoint that is as it was written, None where there is none yet; damaged ones are named.

    Raises:
        UserError: all are damaged.
    """
    folders = checkpoints(folder)
    for checkpoint in reversed(folders):
        wrong = find_damage(checkpoint)
        if wrong is None:
            return checkpoint
        if ranks().rank == 0:
            print(f"{checkpoint} is damaged ({wrong}): trying the one before it", flush=True)
    if folders:
        raise UserError(f"no intact checkpoint in {folder}: move the run's folder away and start it again")
    return None


def fingerprint(model: PreTrainedModel, rows_per_step: int) -> dict[str, Any]:
    """The facts that a checkpoint and the run that resumes from it must share."""
    shapes = [f"{name} {tuple(parameter.shape)}" for name, parameter in sorted(model.named_parameters())]
    return {
        "rows_per_step": rows_per_step,
        "parameters": model.num_parameters(),
        "shapes": hashlib.sha256("\n".join(shapes).encode()).hexdigest(),
    }


def require_match(checkpoint: Path, now: dict[str, Any]) -> None:
    """Raises UserError where a run would go on from something else than it is."""
    then = json.loads((checkpoint / FINGERPRINT).read_text())
    if then["shapes"] != now["shapes"]:
        raise UserError(
            f"{checkpoint} holds a model of other shapes ({then['parameters']:,} parameters, "
            f"this run's has {now['parameters']:,}): a run goes on with its own model only"
        )
    if then["rows_per_step"] != now["rows_per_step"]:
        raise UserError(
            f"a step of this run took {then['rows_per_step']} rows and would take {now['rows_per_step']}: "
            "choose ranks, micro_batch and accumulate so that their product stays"
        )


def write_manifest(checkpoint: Path) -> None:
    """Write down what a checkpoint holds, once it lies on the disk."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    contents = {str(path.relative_to(checkpoint)): {"bytes": path.stat().st_size, "crc32": _crc32(path)} for path in files}
    with (checkpoint / MANIFEST).open("w") as manifest:
        json.dump(contents, manifest, indent=1)
        manifest.flush()
        os.fsync(manifest.fileno())


def find_damage(checkpoint: Path) -> str | None:
    """The first damage in a checkpoint, in words; None if it is intact."""
    try:
        contents = json.loads((checkpoint / MANIFEST).read_text())
        for name, known in contents.items():
            path = checkpoint / name
            if path.stat().st_size != known["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes, not {known['bytes']:,}"
            if _crc32(path) != known["crc32"]:
                return f"{name} has changed"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return f"{MANIFEST} can't be read"
    return None


def _crc32(path: Path) -> int:
    """The CRC-32 of a file; also fsyncs it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        total = 0
        while part := file.read(READ_BYTES):
            total = zlib.crc32(part, total)
    return total


def inside_accumulation(trainer: pl.Trainer) -> bool:
    """Whether the last batch was not the end of an accumulation."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return batches % trainer.accumulate_grad_batches != 0

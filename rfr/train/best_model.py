"""Keeps the model that validation found best, and ends a run that finds no better one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from transformers import PreTrainedTokenizerBase

from rfr.errors import reading
from rfr.model.save import EXPORT_INFO, export
from rfr.strategy.deepspeed import gathered_parameters
from rfr.train.learner import Learner


class SaveBest(Callback):
    """The model as it was when validation found it best, exported to a folder of its own.

    A resumed run reads the best figure back from that folder.

    Args:
        monitor: the figure that is lower where a model is better.
        arrays: to be exported with it.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, monitor: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._folder, self._tokenizer, self._monitor, self._arrays = folder, tokenizer, monitor, arrays
        info = folder / EXPORT_INFO
        with reading(info):
            self.best: dict[str, float] = dict(json.loads(info.read_text())) if info.exists() else {}

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Learner)
        if trainer.sanity_checking or not module.validated[self._monitor] < self.best.get(self._monitor, math.inf):
            return
        self.best = {"step": trainer.global_step, **module.validated}
        with gathered_parameters(trainer):  # on every rank: ZeRO-3 gathers parameters
            if trainer.is_global_zero:
                export(module.model, self._tokenizer, self._folder, self.best, self._arrays)


class EarlyStop(Callback):
    """Ends a run when so many validations in a row have found no better model (Prechelt 1998).

    Args:
        monitor: the figure that is lower where a model is better.
        patience: validations.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        self._monitor, self._patience = monitor, patience
        self._best, self._no_better = math.inf, 0

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        """A run that was killed when it had just ended takes no further step."""
        trainer.should_stop |= self._no_better >= self._patience

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Learner)
        if trainer.sanity_checking:
            return
        figure = module.validated[self._monitor]
        self._best, self._no_better = min(figure, self._best), 0 if figure < self._best else self._no_better + 1
        if self._no_better >= self._patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "no_better": self._no_better}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._no_better = state["best"], state["no_better"]

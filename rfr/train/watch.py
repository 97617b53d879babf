"""Keeps the policy that the watch judge finds best, and ends a run in which it has long found none better."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl

from rfr.model.save import export
from rfr.strategy.deepspeed import gathered_parameters
from rfr.train.build import Run
from rfr.train.finish import BEST


class Watch:
    """Watches one run, and keeps its best policy in `best/` of the run folder.

    Args:
        run: with an agent.
    """

    def __init__(self, run: Run) -> None:
        assert run.agent is not None
        self._run, self._patience = run, run.agent.settings.patience
        self._scores: list[float] = []  # the mean after each round

    def __call__(self, score: float, trainer: pl.Trainer, *, is_new: bool) -> None:
        """Take in the mean score that the watch judge gives after one more round.

        Args:
            is_new: the policy wrote the stories just now; else a resumed run reads them again.
        """
        if is_new and score > max(self._scores, default=-np.inf):
            with gathered_parameters(trainer):  # on every rank: ZeRO-3 gathers parameters
                if trainer.is_global_zero:
                    info = {"step": trainer.global_step, "round": len(self._scores), "watch": score}
                    model, tokenizer = self._run.model, self._run.prepared.tokenizer
                    export(model, tokenizer, self._run.run_dir / BEST, info, self._run.learned)
        self._scores.append(score)
        since_best = len(self._scores) - 1 - int(np.argmax(self._scores))
        if self._patience is not None and since_best >= self._patience:
            trainer.should_stop = True

"""The LightningModule: a model, a loss, an optimizer and a schedule. It knows nothing of rewards or Reddit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DeepSpeedStrategy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from rfr.errors import RunFailed
from rfr.model.attention import hidden_states
from rfr.model.embedding import output_layer
from rfr.objective.losses import Loss
from rfr.optimizer.schedule import Schedule
from rfr.records import AnyBatch
from rfr.strategy.loss_scale import deepspeed_grad_norm, loss_scale, step_was_taken
from rfr.utils.malloc import trim_freed_memory

SKIPPED_IN_A_ROW = 40  # 2^16 halves 16 times to 1; after 40 skipped steps no loss scale will help


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How a run updates its parameters.

    Args:
        make_optimizer: from parameter groups to the optimizer.
        total_steps: optimizer steps of the whole run, for the schedule.
    """

    make_optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer]
    schedule: Schedule
    total_steps: int
    weight_decay: float

    def rate(self, step: int) -> float:
        """The share of the peak learning rate at an optimizer step."""
        return self.schedule(min(step, self.total_steps - 1), self.total_steps)


class Learner(pl.LightningModule):
    """Trains `model`, a policy or a reward model, on rows of isolated documents.

    Args:
        seed: seeds what is drawn in training, which is dropout.
        validations: what the figures of each validation loader are logged under.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Loss,
        optimization: Optimization,
        seed: int = 0,
        validations: SequenceOf[str] = ("val",),
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self._optimization = optimization
        self._seed = seed
        self._validations = validations
        self._step_was_taken = True
        self._not_finite = 0  # consecutive losses that are not finite
        self._shares: dict[str, torch.Tensor] = {}
        self._validation_sums: dict[str, torch.Tensor] = {}
        self.validated: dict[str, float] = {}  # at the last validation, by the names it is logged under
        self.validated_before: dict[str, float] = {}  # before the first step, where asked for
        self.grad_norm: torch.Tensor | float | None = None  # of the last step, before clipping

    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        """Seed dropout by the position in the run alone, so that a resumed run draws the same."""
        position = np.random.SeedSequence([self._seed, batch_idx, self.global_rank])
        torch.manual_seed(int(position.generate_state(1)[0]))

    def training_step(self, batch: AnyBatch, batch_idx: int) -> torch.Tensor:
        loss, shares = self._loss(batch)
        self._log_shares(batch_idx, {"loss": loss.detach()} | shares)
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            self._require_finite()
        # The shares of an optimizer batch add up to its loss, but Lightning divides each by the accumulation steps and
        # data parallelism averages over the ranks: undo both.
        return loss * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def _log_shares(self, batch_idx: int, shares: dict[str, torch.Tensor]) -> None:
        """Log sums over all micro-batches of a step and all ranks, so that curves do not depend on the layout."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._shares = {name: torch.zeros_like(share) for name, share in shares.items()}
        for name, share in shares.items():
            self._shares[name] += share
            self.log(f"train/{name}", self._shares[name], sync_dist=True, reduce_fx="sum")

    @property
    def step_loss(self) -> float:
        """The loss of the optimizer batch so far, on this rank."""
        return float(self._shares["loss"])

    def _require_finite(self) -> None:
        """End before the step that would make every parameter NaN.

        With a loss scale such a step is skipped, and the scale halved: there it takes many in a row.

        Raises:
            RunFailed: the loss of an optimizer step is NaN or infinite.
        """
        loss = self.step_loss
        self._not_finite = 0 if math.isfinite(loss) else self._not_finite + 1
        if self._not_finite > (SKIPPED_IN_A_ROW if loss_scale(self.trainer) is not None else 0):
            raise RunFailed(
                f"the loss is {loss} at step {self.trainer.global_step + 1}: "
                "try a lower optimizer.lr, a longer schedule.warmup_steps or a smaller trainer.gradient_clip",
                1,
            )

    def on_train_start(self) -> None:
        """Gradients are made here and stay: made anew at every step, they would tear memory to holes."""
        if not isinstance(self.trainer.strategy, DeepSpeedStrategy):  # DeepSpeed handles gradients itself
            with trim_freed_memory():
                for parameter in filter(lambda parameter: parameter.requires_grad, self.parameters()):
                    parameter.grad = torch.zeros_like(parameter, dtype=parameter.grad_dtype)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=False)

    def on_validation_model_zero_grad(self) -> None:
        """Lightning would free them."""

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        scale = loss_scale(self.trainer)
        with nullcontext() if self.trainer.global_step else trim_freed_memory():  # the first one makes the optimizer's states
            super().optimizer_step(*arguments, **named)
        self._step_was_taken = step_was_taken(self.trainer, scale)
        if (norm := deepspeed_grad_norm(self.trainer)) is not None:
            self.grad_norm = norm

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Lightning's, and the norm is kept. DeepSpeed clips by itself; its gradients this must leave alone."""
        if not isinstance(self.trainer.strategy, DeepSpeedStrategy):
            self.grad_norm = torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val or float("inf"))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Lightning asks after every step; one that was skipped must not spend the schedule (Lightning#5558, #18828)."""
        if self._step_was_taken:
            scheduler.step()

    def on_validation_epoch_start(self) -> None:
        self._validation_sums = {}

    def validation_step(self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        _, shares = self._loss(batch)
        for figure, share in shares.items():
            name = f"{self._validations[dataloader_idx]}/{figure}"
            before = self._validation_sums.get(name, torch.zeros((), dtype=torch.float64, device=share.device))
            self._validation_sums[name] = before + share.double()

    def on_validation_epoch_end(self) -> None:
        reduce = self.trainer.strategy.reduce
        figures = {name: float(reduce(total, reduce_op="sum")) for name, total in self._validation_sums.items()}
        if self.trainer.sanity_checking:  # Lightning drops what is logged here, but these are the figures before training
            self.validated_before = figures
            for logger in self.loggers:
                logger.log_metrics(figures, 0)
        else:
            self.validated = figures
            self.log_dict(figures, rank_zero_only=True, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["validated"] = self.validated

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.validated = checkpoint["validated"]
        # Lightning counts micro-batches; a run that is laid out anew has other numbers of them per step.
        done = checkpoint["global_step"] * self.trainer.accumulate_grad_batches
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                moved = done - counts["ready"]
                counts.update({name: count + moved for name, count in counts.items()})

    def configure_optimizers(self) -> Any:
        """AdamW's usual rule: matrices decay, vectors (biases, norms) do not."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self._optimization.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        with trim_freed_memory():
            optimizer = self._optimization.make_optimizer(groups)
        # A fused optimizer would undo the loss scale by itself, behind the clipping.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        scheduler = LambdaLR(optimizer, lambda step: self._optimization.rate(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _loss(self, batch: AnyBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.objective(hidden_states(self.model, batch), output_layer(self.model), batch)

    def transfer_batch_to_device(self, batch: AnyBatch, device: torch.device, dataloader_idx: int) -> AnyBatch:
        return batch.to(device)

"""What every objective is to the model that learns from it."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch


class Head(Protocol):
    """A policy's output layer. From hidden states, labels and weights, (N, D), (N,) and (N,), to the sum of w * -log p, and each
    -log p. Of hidden states alone it gives what any layer does."""

    def __call__(self, hidden: torch.Tensor, labels_N: torch.Tensor, weights_N: torch.Tensor) -> Any: ...


class Objective(Protocol):
    """Hidden states (B, T, D), the model's output layer and a batch -> the micro-batch's share of the loss, and shares of what is
    to be logged. The shares of an optimizer batch, or of a validation, add up to the whole."""

    watched: ClassVar[str]  # of what is logged: the lower in validation, the better the model
    writes: ClassVar[bool]  # what is trained writes stories, being a policy; else it scores them, being a reward model
    compares_with_start: ClassVar[bool]  # batches must hold the stories' log-probabilities before training

    def __call__(self, hidden_BTD: torch.Tensor, head: Any, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...

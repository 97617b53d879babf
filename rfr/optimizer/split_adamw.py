"""AdamW for bf16 parameters that are the upper halves of fp32 masters; two extra bytes hold the lower halves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim.adamw import adamw

from rfr.optimizer.adamw import CHUNK_ELEMENTS, Betas, ChunkedAdamW
from rfr.ranges import AboveZero, ZeroOrMore

LOWER, MEAN, SQUARE, STEP = "lower", "exp_avg", "exp_avg_sq", "step"


class SplitAdamW(ChunkedAdamW):
    """torch's AdamW (Loshchilov & Hutter 2019), to the bit, on fp32 masters that take 4 bytes per parameter, not 2 + 4.

    A master is put together from the parameter and 16 more bits, updated, and taken apart again: the parameter is the
    master rounded to bf16, the other bits are the difference. Gradients gather in fp32.
    """

    def __init__(
        self, params: Iterable[Any], lr: AboveZero, betas: Betas, eps: AboveZero, weight_decay: ZeroOrMore = 0.0
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
        for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
            parameter.grad_dtype = torch.float32

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch's own would round every state to the parameter's type."""
        super().load_state_dict({**state_dict, "state": {}})
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, state in state_dict["state"].items():
            own = {name: torch.empty_like(value, device=parameters[index].device).copy_(value) for name, value in state.items()}
            self.state[parameters[index]] = own

    def _first_state(self, parameter: torch.Tensor) -> dict[str, Any]:
        zeros = torch.zeros_like(parameter, dtype=torch.float32)
        lower = torch.zeros_like(parameter, dtype=torch.int16)
        step = torch.zeros((), device=parameter.device)  # where the fused kernel reads it
        return {STEP: step, LOWER: lower, MEAN: zeros, SQUARE: zeros.clone()}

    def _update(self, parameter: torch.Tensor, group: dict[str, Any], number: int) -> None:
        state = self.state[parameter]
        assert parameter.grad is not None
        tensors = (parameter, parameter.grad, state[LOWER], state[MEAN], state[SQUARE])
        steps_before = state[STEP].clone()
        for upper, grad, lower, mean, square in zip(*(tensor.view(-1).split(CHUNK_ELEMENTS) for tensor in tensors), strict=True):
            master = joined(upper, lower)
            state[STEP].copy_(steps_before)
            adamw(
                [master],
                [grad],
                [mean],
                [square],
                [],
                [state[STEP]],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
            divide(master, upper, lower)


def joined(upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """bf16 and int16 to the fp32 that they are the halves of."""
    return (upper.view(torch.int16).to(torch.int32) << 16).add_(lower).view(torch.float32)


def divide(master: torch.Tensor, upper: torch.Tensor, lower: torch.Tensor) -> None:
    """fp32 to its nearest bf16, halves upwards, and the difference of the bits, which lies within int16."""
    bits = master.view(torch.int32)
    half = (bits + 0x8000) >> 16
    upper.view(torch.int16).copy_(half)
    lower.copy_(bits - (half << 16))

"""Optimizers on CPUs and for parameters without fp32 masters: torch's AdamW, and a stochastically rounded one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Len, Lt
from torch.optim import Optimizer

from rfr.ranges import AboveZero, ZeroOrMore

Betas = Annotated[Sequence[Annotated[float, Ge(0), Lt(1)]], Len(2, 2)]  # of Adam's two means
CHUNK_ELEMENTS = 1 << 20  # worked on at once, so that intermediate results stay in the processor's cache


def torch_adamw(
    params: Iterable[Any],
    *,
    lr: AboveZero,
    betas: Betas,
    eps: AboveZero,
    weight_decay: ZeroOrMore = 0.0,
    fused: bool | None = None,
) -> Optimizer:
    """torch's AdamW (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(params, lr, (betas[0], betas[1]), eps, weight_decay, fused=fused)


def cpu_adam(params: Iterable[Any], *, lr: AboveZero, betas: Betas, eps: AboveZero, weight_decay: ZeroOrMore = 0.0) -> Optimizer:
    """DeepSpeed's vectorised AdamW over CPU memory; compiles with g++ and ninja on first use (Rajbhandari et al. 2020)."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return DeepSpeedCPUAdam(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, adamw_mode=True)


class ChunkedAdamW(Optimizer, ABC):
    """The hyperparameters of AdamW and the walk over parameters; a subclass says what becomes of one.

    States are allocated at once: the first step would allocate them between activations and fragment the memory.
    """

    def __init__(
        self, params: Iterable[Any], lr: AboveZero, betas: Betas, eps: AboveZero, weight_decay: ZeroOrMore = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].update(self._first_state(parameter))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        numbered = ((group, parameter) for group in self.param_groups for parameter in group["params"])
        for number, (group, parameter) in enumerate(numbered, start=1):
            if parameter.grad is not None:
                self._update(parameter, group, number)
        return loss

    @abstractmethod
    def _first_state(self, parameter: torch.Tensor) -> dict[str, Any]:
        """The state of a parameter before the first step."""

    @abstractmethod
    def _update(self, parameter: torch.Tensor, group: dict[str, Any], number: int) -> None:
        """Update a parameter, which is the `number`-th of all, and its state."""


class StochasticAdamW(ChunkedAdamW):
    """AdamW (Loshchilov & Hutter 2019) whose parameters and moments may be bf16, without masters.

    Each is computed in fp32 and rounded up or down at random, in proportion to the distance, so that updates smaller than
    half the last place of a parameter survive on average (Gupta et al. 2015; Zamirai et al. 2020). The draw depends on the
    step and the parameter's number alone: a resumed run and all ranks draw the same.
    """

    def _first_state(self, parameter: torch.Tensor) -> dict[str, Any]:
        return {"step": 0, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def _update(self, parameter: torch.Tensor, group: dict[str, Any], number: int) -> None:
        state = self.state[parameter]
        state["step"] += 1
        generator = torch.Generator(parameter.device).manual_seed(state["step"] << 20 | number)
        assert parameter.grad is not None
        grad = parameter.grad.reshape(-1)  # reshape may copy: the gradient is only read, the others are written to
        flat = [parameter.view(-1), grad, state["exp_avg"].view(-1), state["exp_avg_sq"].view(-1)]
        for chunk in map(_Chunk, *(tensor.split(CHUNK_ELEMENTS) for tensor in flat)):
            _adamw(chunk, group, state["step"], generator)


class _Chunk(NamedTuple):
    """A part of a flat parameter, with its gradient and its moments."""

    parameter: torch.Tensor
    grad: torch.Tensor
    mean: torch.Tensor
    square: torch.Tensor


def _adamw(chunk: _Chunk, group: dict[str, Any], step: int, generator: torch.Generator) -> None:
    """One step of AdamW in place, in fp32 between reading and writing."""
    beta1, beta2 = group["betas"]
    p, g, m, v = (tensor.float() for tensor in chunk)
    m = m.lerp_(g, 1 - beta1)
    v = v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    denominator = v.sqrt().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
    p.mul_(1 - group["lr"] * group["weight_decay"]).addcdiv_(m, denominator, value=-group["lr"] / (1 - beta1**step))
    noise = torch.empty(len(p), dtype=torch.int64, device=p.device).random_(generator=generator).view(torch.int16).view(-1, 4)
    for number, (target, value) in enumerate(((chunk.parameter, p), (chunk.mean, m), (chunk.square, v))):
        target.copy_(_rounded(value, noise[:, number]) if target.dtype == torch.bfloat16 else value)


def _rounded(value: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """fp32 rounded to one of its two neighbours in bf16, the nearer the likelier; `noise` is int16, of all values alike."""
    bits = value.view(torch.int32) + (noise.to(torch.int32) & 0xFFFF)
    return (bits & -0x10000).view(torch.float32)

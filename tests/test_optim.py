"""AdamW without fp32 masters: torch's own in fp32, and in bf16 on average where plain rounding would stand still."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import AdamW, Optimizer

from rfr.model import optim
from rfr.model.optim import StochasticAdamW

SETTINGS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def _grads(steps: int, shape: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) + 0.5 for _ in range(steps)]


def _train(optimizer: Optimizer, parameter: torch.Tensor, grads: list[torch.Tensor]) -> None:
    for grad in grads:
        parameter.grad = grad.to(parameter.dtype)
        optimizer.step()


def test_in_fp32_it_is_torchs_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "PART", 7)
    start = torch.linspace(-1, 1, 30).view(5, 6)
    mine, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    _train(StochasticAdamW([mine], **SETTINGS), mine, _grads(8, (5, 6)))
    _train(AdamW([theirs], **SETTINGS), theirs, _grads(8, (5, 6)))
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    assert (mine - start).abs().mean() > 1e-3


def test_in_bf16_small_updates_survive_on_average() -> None:
    """A step of 1e-3 is an eighth of bf16's last place at 1: rounded to the nearest, nothing would ever change."""
    grads = [torch.ones(20_000)] * 20
    kinds: list[tuple[str, Callable[..., Optimizer], torch.dtype]] = [
        ("stochastic", StochasticAdamW, torch.bfloat16), ("nearest", AdamW, torch.bfloat16), ("exact", AdamW, torch.float32)
    ]  # fmt: skip
    ends = {}
    for name, make, dtype in kinds:
        parameter = torch.ones(20_000, dtype=dtype, requires_grad=True)
        _train(make([parameter], **SETTINGS), parameter, grads)
        ends[name] = parameter.detach().float()
    assert (ends["nearest"] == 1).all()
    moved = float(1 - ends["exact"].mean())
    assert moved == pytest.approx(0.022, rel=0.05)
    assert float(1 - ends["stochastic"].mean()) == pytest.approx(moved, rel=0.03)


def test_what_is_drawn_depends_on_the_step_alone() -> None:
    """So that a run resumes bit for bit, whatever else has drawn random numbers."""
    grads = _grads(6, (50, 50))

    def begin() -> tuple[torch.Tensor, StochasticAdamW]:
        parameter = torch.ones((50, 50), dtype=torch.bfloat16, requires_grad=True)
        return parameter, StochasticAdamW([parameter], **SETTINGS)

    whole, optimizer = begin()
    _train(optimizer, whole, grads)
    first, optimizer = begin()
    _train(optimizer, first, grads[:3])
    saved, state = first.detach().clone(), copy.deepcopy(optimizer.state_dict())
    torch.rand(1000)
    second, optimizer = begin()
    second.data.copy_(saved)
    optimizer.load_state_dict(state)
    _train(optimizer, second, grads[3:])
    assert torch.equal(whole, second)
    assert not torch.equal(whole, saved)

"""AdamW without fp32 masters: torch's own in fp32, and in bf16 on average where plain rounding would stand still."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import AdamW, Optimizer

from rfr.optimizer import adamw, split_adamw
from rfr.optimizer.adamw import StochasticAdamW
from rfr.optimizer.split_adamw import SplitAdamW

SETTINGS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def _grads(steps: int, shape: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) + 0.5 for _ in range(steps)]


def _train(optimizer: Optimizer, parameter: torch.Tensor, grads: list[torch.Tensor]) -> None:
    for grad in grads:
        parameter.grad = grad.to(parameter.dtype)
        optimizer.step()


def test_in_fp32_it_is_torchs_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adamw, "CHUNK_ELEMENTS", 7)
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


def test_rounding_depends_on_the_step_alone() -> None:
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


def test_split_masters_are_torchs_adamw_in_fp32_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_adamw, "CHUNK_ELEMENTS", 1 << 14)
    start = torch.randn(300, 257, generator=torch.Generator().manual_seed(1)).bfloat16()
    mine, theirs = start.clone().requires_grad_(), start.float().requires_grad_()
    optimizer, torchs = SplitAdamW([mine], **SETTINGS), AdamW([theirs], fused=True, **SETTINGS)
    for grad in _grads(8, (300, 257)):
        mine.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        torchs.step()
    assert torch.equal(split_adamw.joined(mine.detach(), optimizer.state[mine]["lower"]), theirs.detach())
    assert (mine.float() - theirs).abs().max() <= theirs.abs().max() / 256
    assert (optimizer.state[mine]["lower"] != 0).float().mean() > 0.9, "the masters hold more than the parameters"


def test_split_masters_gather_gradients_in_fp32_and_are_restored_whole() -> None:
    parameter = torch.ones(64, 64, dtype=torch.bfloat16, requires_grad=True)
    optimizer = SplitAdamW([parameter], **SETTINGS)
    for size in (1.0, 2.0**-12):  # in bf16 the second would be lost
        (parameter * size).sum().backward()
    assert parameter.grad is not None
    assert (parameter.grad == 1 + 2.0**-12).all()
    optimizer.step()
    again = parameter.detach().clone().requires_grad_()
    restored = SplitAdamW([again], **SETTINGS)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for mine, other in ((optimizer, parameter), (restored, again)):
        other.grad = torch.full((64, 64), 0.3)
        mine.step()
    assert torch.equal(parameter, again)
    for name, value in optimizer.state[parameter].items():
        assert torch.equal(value, restored.state[again][name]), name
        assert value.dtype == restored.state[again][name].dtype


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.14159, 1e-38, 1.00390625, -1.01171875, 3e38])
def test_a_number_is_divided_and_joined_again(value: float) -> None:
    master = torch.tensor([value, value * 1.0000001], dtype=torch.float32)
    upper, lower = torch.empty(2, dtype=torch.bfloat16), torch.empty(2, dtype=torch.int16)
    split_adamw.divide(master, upper, lower)
    assert torch.equal(split_adamw.joined(upper, lower).view(torch.int32), master.view(torch.int32))
    assert (upper.float() - master).abs().max() <= master.abs().max() * 2**-8

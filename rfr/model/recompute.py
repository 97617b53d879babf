"""Recomputes activation functions in the backward pass instead of keeping their outputs.

The next layer would keep the output, though its input, of the same size, is kept anyway and recomputing it is cheap: the
part of selective activation recomputation (Korthikanti et al. 2022) that is all but free.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel
from transformers.activations import ACT2CLS

from rfr.model.attention import body_of

Keep = Callable[[torch.Tensor], Any]
FUNCTIONS: tuple[Any, ...] = tuple(entry[0] if isinstance(entry, tuple) else entry for entry in ACT2CLS.values())


class _Recipe(NamedTuple):
    """How to recompute an activation function's output: `function(given)`, viewed in `shape`. Versions show changes in place."""

    function: nn.Module
    given: torch.Tensor
    given_version: int
    output: weakref.ref[torch.Tensor]
    output_version: int
    shape: torch.Size

    def gives(self, tensor: torch.Tensor) -> bool:
        """Whether `tensor` is the output, or a view of all of it. Its address may have been reused."""
        output = self.output()
        return (
            output is not None
            and output.is_contiguous()
            and tensor.is_contiguous()
            and tensor.numel() == output.numel()
            and tensor._version == self.output_version
        )

    @torch.no_grad()
    def follow(self) -> torch.Tensor:
        assert self.given._version == self.given_version, "the activation function's input was changed in place"
        output: torch.Tensor = self.function.forward(self.given)
        return output.view(self.shape)


def recompute_activations(model: PreTrainedModel, keep: Keep = lambda tensor: tensor) -> None:
    """From now on, whenever gradients are wanted. Compiled layers need no such thing: their compiler sees to it.

    Args:
        keep: gets each tensor that is still kept; the tensor that it returns is kept in its place.
    """
    recipes: dict[int, _Recipe] = {}  # of the forward pass that is under way, by the storage of their outputs
    hooks: list[saved_tensors_hooks] = []

    def note(function: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if hooks and not list(function.parameters()):  # its parameters may be on another device by then
            x = given[0].detach()
            recipes[_storage_id(output)] = _Recipe(function, x, x._version, weakref.ref(output), output._version, output.shape)

    def pack(tensor: torch.Tensor) -> Any:
        recipe = recipes.get(_storage_id(tensor))
        return recipe._replace(shape=tensor.shape) if recipe is not None and recipe.gives(tensor) else keep(tensor)

    def begin(*_: Any) -> None:
        if torch.is_grad_enabled():
            hooks.append(saved_tensors_hooks(pack, _unpack))
            hooks[-1].__enter__()

    def end(*_: Any) -> None:
        recipes.clear()
        while hooks:
            hooks.pop().__exit__(None, None, None)

    for module in model.modules():
        if isinstance(module, FUNCTIONS):
            module.register_forward_hook(note)
    body_of(model).register_forward_pre_hook(begin)
    body_of(model).register_forward_hook(end, always_call=True)


def _unpack(kept: Any) -> Any:
    return kept.follow() if isinstance(kept, _Recipe) else kept


def _storage_id(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata

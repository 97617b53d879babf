"""Activation functions are worked out again in the backward pass: to the bit, and never where that would be wrong."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

from rfr.model.load import with_fused_gelu
from rfr.model.recompute import _Recipe, recompute_activations

SIZES: dict[str, Any] = {"vocab_size": 64, "max_position_embeddings": 32}
CONFIGS = {
    "gpt2": with_fused_gelu(GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=2)),
    "llama": LlamaConfig(**SIZES, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2),
}
TOKENS = torch.arange(24).view(2, 12)


def _model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name]).to(dtype).train()


def _gradients(model: PreTrainedModel) -> list[torch.Tensor]:
    torch.manual_seed(1)  # of dropout
    model.zero_grad()
    model(input_ids=TOKENS, use_cache=False).logits.float().logsumexp(-1).sum().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def _same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_the_same_to_the_bit(name: str, dtype: torch.dtype, autocast: bool) -> None:
    plain, sparing = _model(name, dtype), _model(name, dtype)
    recompute_activations(sparing)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert _same(_gradients(plain), _gradients(sparing))
        assert _same(_gradients(plain), _gradients(sparing)), "the second time, too"


def test_the_outputs_are_not_kept() -> None:
    model, kept = _model("gpt2"), []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    recompute_activations(model, keep)
    _gradients(model)
    assert kept.count(torch.Size([2, 12, 4 * 32])) == 2, "the inputs, one in each layer"
    assert torch.Size([24, 4 * 32]) not in kept, "as the next layer sees the outputs"


def test_without_gradients_nothing_is_noted() -> None:
    model = _model("gpt2")
    recompute_activations(model)
    expected = _gradients(model)
    with torch.inference_mode():  # whose tensors have no versions
        model(input_ids=TOKENS)
    with pytest.raises(IndexError):
        model(input_ids=TOKENS + 1000)  # the hooks go with a forward pass that failed
    assert _same(_gradients(model), expected)


class _Odd(nn.Module):
    """An MLP whose forward pass is another."""

    def __init__(self, mlp: Any, forward: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.mlp, self._forward = mlp, forward

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._forward(self.mlp, hidden)


def _odd(forward: Callable[[Any, torch.Tensor], torch.Tensor]) -> PreTrainedModel:
    model = _model("gpt2")
    layers: Any = model.base_model.h
    for layer in layers:
        layer.mlp = _Odd(layer.mlp, forward)
    return model


def test_an_output_that_was_changed_in_place_is_kept() -> None:
    def forward(mlp: Any, hidden: torch.Tensor) -> torch.Tensor:
        return mlp.c_proj(mlp.act(mlp.c_fc(hidden)).mul_(2))

    plain, sparing = _odd(forward), _odd(forward)
    recompute_activations(sparing)
    assert _same(_gradients(plain), _gradients(sparing))


def test_an_input_that_was_changed_in_place_is_told() -> None:
    def forward(mlp: Any, hidden: torch.Tensor) -> torch.Tensor:
        given = mlp.c_fc(hidden)
        result = mlp.c_proj(mlp.act(given))
        with torch.no_grad():
            given.mul_(2)
        return result

    model = _odd(forward)
    for layer in model.modules():
        if isinstance(layer, GPT2MLP):
            layer.act = nn.ReLU()  # which needs no input to go back, so that autograd would not notice
    recompute_activations(model)
    with pytest.raises(AssertionError, match="changed in place"):
        _gradients(model)


def test_only_the_whole_output_counts_as_it() -> None:
    given, output = torch.ones(4), torch.ones(4)
    recipe = _Recipe(nn.ReLU(), given, given._version, weakref.ref(output), output._version, output.shape)
    assert recipe.gives(output.view(2, 2))
    assert not recipe.gives(output[:2])
    assert not recipe.gives(output.view(2, 2).T)
    del output
    assert not recipe.gives(torch.ones(4)), "another tensor may have taken its place"

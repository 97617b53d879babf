"""Padding the tokens of experts changes their shapes and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rfr.model import experts
from rfr.model.shrink import shrink

FAMILIES = ["gpt_oss", "mixtral", "qwen2_moe", "deepseek_v3", "olmoe"]


def _model(model_type: str) -> PreTrainedModel:
    torch.manual_seed(0)
    make: Any = CONFIG_MAPPING[model_type]
    model: PreTrainedModel = AutoModelForCausalLM.from_config(shrink(make()), dtype=torch.float32)
    return model


def _logits_and_gradients(model: PreTrainedModel, tokens: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    logits = model(input_ids=tokens, use_cache=False).logits
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    return [logits, *(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("model_type", FAMILIES)
def test_padded_experts_are_the_architectures_own(model_type: str) -> None:
    model, tokens = _model(model_type), torch.randint(3, 90, (1, 150))
    model.set_experts_implementation("eager")
    exact = _logits_and_gradients(model, tokens)
    model.set_experts_implementation(experts.NAME)
    for one, other in zip(_logits_and_gradients(model, tokens), exact, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-6


def test_every_expert_gets_a_multiple_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = _model("gpt_oss"), []
    real = experts.grouped_mm_experts_forward

    def counting(module: Any, states: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        seen.append(torch.bincount(index.flatten(), minlength=module.num_experts))
        return real(module, states, index, weights)

    monkeypatch.setattr(experts, "grouped_mm_experts_forward", counting)
    experts.pad_experts(model)
    for length in (100, 131):
        model(input_ids=torch.randint(3, 90, (1, length)), use_cache=False)
    assert len(seen) == 2 * model.config.num_hidden_layers
    assert all((counts % experts.TOKEN_STEP == 0).all() for counts in seen)


def test_a_saved_model_does_not_name_the_padding(tmp_path: Path) -> None:
    model = _model("mixtral")
    experts.pad_experts(model)
    assert model.config._experts_implementation == experts.NAME
    model.save_pretrained(tmp_path)
    assert experts.NAME not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


def test_an_implementation_of_experts_that_was_chosen_stays() -> None:
    model = _model("mixtral")
    model.set_experts_implementation("eager")
    experts.pad_experts(model)
    assert model.config._experts_implementation == "eager"

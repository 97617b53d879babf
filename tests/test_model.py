"""Documents of a row do not see each other; models and precision are refused with a helpful line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

import rfr.model.precision as precision
from rfr.data.module import to_batch
from rfr.data.prepare import Prepared
from rfr.errors import UserError
from rfr.generate import Sampling, sample
from rfr.model.build import build_model, build_tokenizer, no_random_weights
from rfr.model.module import document_mask


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, tiny_model: PreTrainedModel) -> PreTrainedModel:
    if request.param == "gpt2":
        return tiny_model
    config = LlamaConfig(
        vocab_size=640,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def _packed_row(prepared: Prepared) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A row that holds at least two documents: ids, positions, documents, each of shape (1, T)."""
    rows = prepared.train.rows
    index = int((rows.take(np.arange(len(rows))).documents.max(axis=1) >= 2).nonzero()[0][0])
    batch = to_batch(rows, torch.tensor([index]).numpy(), torch.ones(len(prepared.train.pairs)).numpy(), 1)
    return batch.input_ids_BT, batch.positions_BT, batch.documents_BT


@torch.no_grad()
def _logits(model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids, attention_mask=document_mask(documents), position_ids=positions, use_cache=False).logits


def test_a_packed_document_equals_the_document_alone(model: PreTrainedModel, prepared: Prepared) -> None:
    ids, positions, documents = _packed_row(prepared)
    packed = _logits(model, ids, positions, documents)
    assert documents.max() >= 2
    with torch.no_grad():
        for document in range(1, int(documents.max()) + 1):
            mine = documents[0] == document
            alone = model(input_ids=ids[:, mine], use_cache=False).logits
            assert torch.allclose(packed[:, mine], alone, atol=1e-4)


def test_perturbing_one_document_changes_no_other(model: PreTrainedModel, prepared: Prepared) -> None:
    ids, positions, documents = _packed_row(prepared)
    before = _logits(model, ids, positions, documents)
    changed = torch.where(documents == 1, (ids + 1) % 600, ids)
    after = _logits(model, changed, positions, documents)
    assert torch.equal(before[documents == 2], after[documents == 2])
    assert not torch.equal(before[documents == 1], after[documents == 1])
    # The test can fail: with one document for all, the change does leak.
    leak = _logits(model, changed, positions, torch.ones_like(documents))[documents == 2]
    assert not torch.equal(_logits(model, ids, positions, torch.ones_like(documents))[documents == 2], leak)


def test_sampling_is_deterministic_and_leaves_the_random_state(tiny_model: PreTrainedModel, prepared: Prepared) -> None:
    prompts = ["[WP] A smuggler finds a silver key in the old forest.", "[WP] Short."]
    sampling = Sampling(max_new_tokens=12, seed=4)
    torch.manual_seed(9)
    first = sample(tiny_model, prepared.tokenizer, prompts, sampling)
    drawn = torch.rand(1)
    torch.manual_seed(9)
    assert torch.equal(drawn, torch.rand(1))
    assert sample(tiny_model, prepared.tokenizer, prompts, sampling) == first
    assert len(first) == 2


def test_a_prompt_longer_than_the_block(tiny_model: PreTrainedModel, prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="shorten the prompt"):
        sample(tiny_model, prepared.tokenizer, ["[WP] " + "very " * 300], Sampling(max_new_tokens=5))


def test_unreachable_weights_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.weights to random or a path"):
        build_model("pretrained", "openai-community/gpt2", lambda _: pytest.fail("no"), 10, 0, 0.0)
    with pytest.raises(UserError, match="no model folder at"):
        build_model(str(tmp_path / "none"), "", lambda _: pytest.fail("no"), 10, 0, 0.0)
    with pytest.raises(UserError, match=r"model\.tokenizer to corpus or a path"):
        build_tokenizer("pretrained", "openai-community/gpt2")
    with pytest.raises(UserError, match="make smollm2"):
        build_model("pretrained", "no_such_package:x.gguf", lambda _: pytest.fail("no"), 10, 0, 0.0)
    with pytest.raises(UserError, match="model=auto"):
        no_random_weights(vocab_size=3)


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"avx2"})
    assert precision.resolve("auto") == "fp32"
    with pytest.raises(ValueError, match="no native bf16"):
        precision.resolve("bf16")
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"amx_bf16", "avx512_fp16"})
    assert precision.resolve("auto") == "bf16"
    assert precision.resolve("fp16") == "fp16"

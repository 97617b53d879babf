"""Documents of a row do not see each other; models and precision are refused with a helpful line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel

import rfr.strategy.precision as precision
from rfr.data.batches import WeightedRows
from rfr.data.prepare import Prepared
from rfr.errors import UserError
from rfr.generation.sampling import Sampling, sample
from rfr.model.attention import NAME, dense_mask, document_mask, isolated_documents
from rfr.model.embedding import Embedding, Head, replace_ends
from rfr.model.load import WeightSource, build_model, build_tokenizer, no_random_weights


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
    return AutoModelForCausalLM.from_config(config, attn_implementation=NAME).eval()


@pytest.fixture
def packed(prepared: Prepared) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Eight rows of two documents and more: ids, positions, documents, each of shape (8, T)."""
    rows = prepared.train.rows
    several = (rows.take(np.arange(len(rows))).documents.max(axis=1) >= 2).nonzero()[0]
    chosen = several[np.linspace(0, len(several) - 1, 8).astype(int)]
    batch = WeightedRows(rows).batch(chosen, chosen)
    assert (batch.documents_BT.amax(dim=1) >= 2).all()
    assert (batch.documents_BT == 0).any(), "some rows end in padding"
    return batch.input_ids_BT, batch.positions_BT, batch.documents_BT


Isolate = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(params=[document_mask, dense_mask], ids=["each document by itself", "a dense mask, as on a GPU"])
def isolate(request: pytest.FixtureRequest) -> Isolate:
    return request.param


@torch.no_grad()
def _logits(model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits


def _as_if_alone(model: PreTrainedModel, packed: tuple[torch.Tensor, ...], logits: torch.Tensor) -> bool:
    """Whether every document's logits are those that it has on its own."""
    ids, _, documents = packed
    for row in range(len(ids)):
        for document in range(1, int(documents[row].max()) + 1):
            mine = documents[row] == document
            with torch.no_grad():
                alone = model(input_ids=ids[row : row + 1, mine], use_cache=False).logits[0]
            if not torch.allclose(logits[row, mine], alone, rtol=0, atol=1e-4):
                return False
    return True


def test_a_packed_document_equals_the_document_alone(
    model: PreTrainedModel, packed: tuple[torch.Tensor, ...], isolate: Isolate
) -> None:
    ids, positions, documents = packed
    assert _as_if_alone(model, packed, _logits(model, ids, positions, isolate(documents)))
    # It can fail: with a mask that knows no documents, and with positions that don't start again.
    assert not _as_if_alone(model, packed, _logits(model, ids, positions, isolate(torch.ones_like(documents))))
    running_on = torch.arange(ids.shape[1]).expand_as(ids)
    alike = _as_if_alone(model, packed, _logits(model, ids, running_on, isolate(documents)))
    assert alike == (model.config.model_type == "llama")


def _touched(model: PreTrainedModel, packed: tuple[torch.Tensor, ...], mask: torch.Tensor, document: int) -> torch.Tensor:
    """Where any logit changes at all, shape (rows, T), if this document of each row gets other tokens."""
    ids, positions, documents = packed
    changed = torch.where(documents == document, (ids + 1) % 600, ids)
    return (_logits(model, ids, positions, mask) != _logits(model, changed, positions, mask)).any(dim=-1)


@pytest.mark.parametrize("document", [1, 2])
def test_perturbing_one_document_changes_no_other(
    model: PreTrainedModel, packed: tuple[torch.Tensor, ...], document: int, isolate: Isolate
) -> None:
    _, _, documents = packed
    touched = _touched(model, packed, isolate(documents), document)
    assert not touched[documents != document].any()
    assert touched[documents == document].all()
    # It can fail: where all are one document, the change leaks into what stands behind it.
    leaking = _touched(model, packed, isolate(torch.ones_like(documents)), document)
    assert leaking[documents > document].any() or document == int(documents.max())


LONG = torch.tensor([[1] * 150 + [2] * 140 + [0] * 10, [1] * 300])  # more queries than are worked on at once, and fewer


def _attention(mask: torch.Tensor, inputs: list[torch.Tensor], dropout: float = 0.0) -> list[torch.Tensor]:
    """What `isolated_documents` gives, and its gradients."""
    module = torch.nn.Module()
    module.num_key_value_groups = inputs[0].shape[1] // inputs[1].shape[1]  # type: ignore[assignment]
    mixed, _ = isolated_documents(module, inputs[0], inputs[1], inputs[2], mask, dropout)
    scale = torch.linspace(-1, 1, mixed.numel()).view_as(mixed)
    return [mixed, *torch.autograd.grad((mixed.float() * scale).sum(), inputs)]


def _inputs(heads: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, count, LONG.shape[1], 8) for count in (4, heads, heads))
    return [query, key + 5 * torch.randn(8), value]  # keys have much in common, as in real models


@pytest.mark.parametrize("heads", [4, 2], ids=["as many keys", "keys shared by heads"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)], ids=["fp32", "fp16", "bf16"]
)
def test_attention_and_its_gradient_are_those_of_the_dense_mask(heads: int, dtype: torch.dtype, tolerance: float) -> None:
    """Of the same rounded inputs, in fp64; as errors relative to the whole tensor."""
    given = [tensor.to(dtype) for tensor in _inputs(heads)]
    exact = _attention(dense_mask(LONG), [tensor.double().requires_grad_() for tensor in given])
    ours = _attention(document_mask(LONG), [tensor.requires_grad_() for tensor in given])
    for one, other in zip(ours, exact, strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_under_autocast_has_its_type(dtype: torch.dtype) -> None:
    """Some models hand over queries and keys in fp32 and values as autocast left them."""
    query, key, value = _inputs(4)
    given = [query.requires_grad_(), key.requires_grad_(), value.to(dtype).requires_grad_()]
    with torch.autocast("cpu", dtype):
        mixed, *grads = _attention(document_mask(LONG), given)
    cast = [tensor.detach().to(dtype).requires_grad_() for tensor in given]
    assert mixed.dtype == dtype
    for one, other in zip([mixed, *grads], _attention(document_mask(LONG), cast), strict=True):
        assert torch.equal(one.to(dtype), other)


def test_attention_drops_within_documents_too() -> None:
    given = [tensor.requires_grad_() for tensor in _inputs(4)]
    torch.manual_seed(3)
    by_ids = _attention(document_mask(LONG), given, dropout=0.5)
    torch.manual_seed(3)
    for one, other in zip(by_ids, _attention(dense_mask(LONG), given, dropout=0.5), strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(by_ids[0], _attention(document_mask(LONG), given)[0])


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_of_both_ends_are_added_to_those_that_are_there(tied: bool) -> None:
    """To fp32 ones directly; to others, or where there are none, by autograd. All alike, twice over."""
    config = GPT2Config(vocab_size=640, n_embd=32, n_layer=1, n_head=2, tie_word_embeddings=tied)
    ids = torch.randint(640, (2, 70), generator=torch.Generator().manual_seed(0))
    gradients = {}
    for there in (False, True):
        policy = build_model(WeightSource("random", None, lambda: config))
        inputs, head = policy.get_input_embeddings(), policy.get_output_embeddings()
        assert (inputs.weight is head.weight) == tied
        assert isinstance(inputs, Embedding)
        for parameter in policy.parameters():
            parameter.grad = torch.zeros_like(parameter) if there else None
        for _ in range(2):
            hidden = policy.base_model(input_ids=ids).last_hidden_state
            (head(hidden.flatten(0, 1), ids.flatten(), torch.ones(140))[0] * 0.5).backward()
        gradients[there] = [parameter.grad for parameter in policy.parameters()]
    for one, other in zip(gradients[False], gradients[True], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_sampling_is_deterministic_and_leaves_the_random_state(tiny_model: PreTrainedModel, prepared: Prepared) -> None:
    prompts = ["[WP] A smuggler finds a silver key in the old forest.", "[WP] Short."]
    sampling = Sampling(max_new_tokens=12, seed=4)
    torch.manual_seed(9)
    first = sample(tiny_model, prepared.tokenizer, prompts, sampling)
    drawn = torch.rand(1)
    torch.manual_seed(9)
    assert torch.equal(drawn, torch.rand(1))
    again = sample(tiny_model, prepared.tokenizer, prompts, sampling)
    assert [story.text for story in again] == [story.text for story in first]
    assert len(first) == 2


def test_a_prompt_longer_than_the_block(tiny_model: PreTrainedModel, prepared: Prepared) -> None:
    with pytest.raises(UserError, match="shorten the prompt"):
        sample(tiny_model, prepared.tokenizer, ["[WP] " + "very " * 300], Sampling(max_new_tokens=5))


def test_unreachable_weights_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.weights to random or a path"):
        build_model(WeightSource("pretrained", "openai-community/gpt2"))
    with pytest.raises(UserError, match="no model folder at"):
        build_model(WeightSource(str(tmp_path / "none"), ""))
    with pytest.raises(UserError, match=r"model\.tokenizer to corpus or a path"):
        build_tokenizer("pretrained", "openai-community/gpt2")
    with pytest.raises(UserError, match="make smollm2"):
        build_model(WeightSource("pretrained", "no_such_package:x.gguf"))
    with pytest.raises(UserError, match="model=auto"):
        no_random_weights(vocab_size=3)


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"avx2"})
    assert precision.resolve_precision("auto") == "fp32"
    with pytest.raises(UserError, match="no native bf16"):
        precision.resolve_precision("bf16")
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"amx_bf16", "avx512_fp16"})
    assert precision.resolve_precision("auto") == "bf16"
    assert precision.resolve_precision("fp16") == "fp16"


def _gpt2(**settings: Any) -> PreTrainedModel:
    config = GPT2Config(vocab_size=64, n_layer=1, n_head=2, n_embd=16, n_positions=32, **settings)
    return AutoModelForCausalLM.from_config(config, attn_implementation=NAME)


def test_a_head_is_put_in_whatever_the_dropout_is_and_stays_tied() -> None:
    model = replace_ends(_gpt2(attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5))
    assert isinstance(model.get_output_embeddings(), Head)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.training

"""The probe tells which architectures are trained exactly; here are some of each kind, `make bench-models` has them all."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, GPT2Config, LlamaConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rfr.errors import UserError
from rfr.generation.greedy import write_greedily
from rfr.generation.slot_cache import SlotCache
from rfr.model import attention, document_attention, logit_transform, probe
from rfr.model.attention import ADDITIVE, NAME
from rfr.model.load import WeightSource, build_model
from rfr.model.logit_transform import measure_transform
from rfr.model.output_layer import LogitTransform, Unembedding
from rfr.model.shrink import shrink
from rfr.train.exactness import exact_attention


def _config(model_type: str, **settings: Any) -> PretrainedConfig:
    make: Any = CONFIG_MAPPING[model_type]
    config: PretrainedConfig = make(**settings)
    return config


def _small(model_type: str, **settings: Any) -> PretrainedConfig:
    return shrink(_config(model_type, **settings))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)  # configs of small models keep ids of large vocabularies


TOLERANCE, BF16_TOLERANCE = (1e-4, 2e-5), (2e-2, 2e-2)  # relative, absolute
PACKED = [
    ("gpt2", NAME), ("llama", NAME), ("qwen2", NAME), ("opt", NAME), ("gptj", NAME), ("codegen", NAME), ("phi", NAME),
    ("granite", NAME), ("cohere", NAME),
    # windows, caps, sinks, layers of two kinds
    ("mistral", NAME), ("gemma2", NAME), ("gemma3_text", NAME), ("phi3", NAME), ("starcoder2", NAME), ("exaone4", NAME),
    ("gpt_oss", NAME), ("deepseek_v3", NAME),
    # attention of their own
    ("falcon", "sdpa"), ("llama4_text", "sdpa"), ("gpt_neo", "eager"), ("xglm", ADDITIVE), ("mpt", ADDITIVE),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "implementation"), PACKED, ids=[model_type for model_type, _ in PACKED])
def test_stories_share_a_row_exactly(model_type: str, implementation: str) -> None:
    assert probe.probe(_small(model_type)) == probe.Verdict(attention=implementation, packed=True)


@pytest.mark.parametrize("model_type", ["mamba", "jamba", "qwen3_next", "bloom"])
def test_models_with_a_state_or_alibi_take_a_row_for_each_story(model_type: str) -> None:
    verdict = probe.probe(_small(model_type))
    assert verdict.attention is not None
    assert not verdict.packed
    assert verdict.difference.startswith("hidden states")


@pytest.mark.parametrize(
    ("model_type", "why"),
    [("bert", "it is an encoder"), ("rwkv", "the likelihood of what it writes")],  # padding on the left goes into RWKV's state
)
def test_a_model_that_is_never_exact_says_what_differs(model_type: str, why: str) -> None:
    verdict = probe.probe(_small(model_type))
    assert verdict.attention is None
    assert verdict.difference.startswith(why)


def test_the_message_says_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mamba = _config("mamba")
    with pytest.raises(UserError, match=r"model_type=mamba is not exact .*\(hidden states: apart by .*\): set packing=off"):
        exact_attention(mamba, tmp_path, remedy="set packing=off")
    monkeypatch.setattr("rfr.train.exactness.probe", lambda *_: pytest.fail("probed twice"))
    assert exact_attention(_config("mamba"), tmp_path) in attention.IMPLEMENTATIONS
    with pytest.raises(pytest.fail.Exception, match="probed twice"):  # another architecture is not that one
        exact_attention(_config("mamba", state_size=8), tmp_path)


def test_a_model_that_cannot_be_exact_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^rfr can't train model_type=bert exactly, not even with packing=off: it is an encoder"
    ) as refusal:
        exact_attention(BertConfig(), tmp_path)
    assert "\n" not in str(refusal.value)


def test_the_probe_tries_what_writes_the_stories() -> None:
    written = {model_type: probe.probe(_small(model_type), write_greedily) for model_type in ("gpt2", "llama", "mistral")}
    assert {model_type: verdict.slots for model_type, verdict in written.items()} == {
        "gpt2": True, "llama": True, "mistral": False,
    }  # fmt: skip
    assert all(verdict.attention == NAME for verdict in written.values())


class TestBreaking:
    """The probe must find every fault that it is there for."""

    @pytest.mark.parametrize("model_type", ["gpt2", "llama"])
    def test_slots_that_forget_a_token(self, model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = SlotCache.begin
        monkeypatch.setattr(
            SlotCache, "begin", lambda self, slot, prefix, row, tokens: real(self, slot, prefix, row, max(0, tokens - 1))
        )
        verdict = probe.probe(_small(model_type), write_greedily)
        assert verdict.attention is None
        assert verdict.difference.startswith("the likelihood of what it writes")

    @staticmethod
    def _verdict(model_type: str, **settings: float) -> probe.Verdict:
        return probe.probe(_small(model_type, **settings))

    @staticmethod
    def _drop(monkeypatch: pytest.MonkeyPatch, **fields: None) -> None:
        """Make training ignore these fields of the architecture's rule."""
        real = document_attention._blocks
        monkeypatch.setattr(document_attention, "_blocks", lambda document, rule: real(document, rule._replace(**fields)))

    def test_a_window_that_is_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._drop(monkeypatch, window=None)
        assert self._verdict("mistral").attention != NAME
        assert self._verdict("gpt2").attention == NAME

    def test_a_window_that_is_dropped_where_no_small_copy_can_be_made(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:  # fmt: skip
        monkeypatch.setattr("rfr.train.exactness._shrunken", lambda _: None)
        wide = _small("mistral")
        wide.sliding_window = 4096
        assert exact_attention(wide, tmp_path / "whole") == NAME
        self._drop(monkeypatch, window=None)
        assert exact_attention(wide, tmp_path / "dropped") != NAME

    def test_documents_that_see_one_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = attention.document_mask
        monkeypatch.setattr(attention, "document_mask", lambda ids: real(torch.ones_like(ids)))
        assert self._verdict("llama").attention != NAME

    @pytest.mark.parametrize("stage", ["training", "generation"])
    def test_the_probe_finds_a_dropped_sink(self, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if stage == "training":
            real: Any = document_attention._give_to_sinks
            monkeypatch.setattr(
                document_attention, "_give_to_sinks", lambda scores, _, sinks: real(scores, scores.clone(), sinks)
            )
        else:
            dense: Any = attention._probabilities
            monkeypatch.setattr(attention, "_probabilities", lambda *given: dense(*given[:-1], None))
        assert self._verdict("gpt_oss").attention != NAME

    @pytest.mark.parametrize("stage", ["training", "generation"])
    def test_the_probe_finds_a_dropped_cap_on_the_scores(self, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if stage == "training":
            self._drop(monkeypatch, softcap=None)
        else:
            dense: Any = attention._probabilities
            monkeypatch.setattr(
                attention, "_probabilities", lambda *given: dense(*given[:3], given[3]._replace(softcap=None), given[4])
            )
        assert self._verdict("gemma2", attn_logit_softcapping=2.0).attention != NAME

    @pytest.mark.parametrize(
        ("model_type", "settings"),
        [("granite", {"logits_scaling": 4.0}), ("gemma2", {"final_logit_softcapping": 5.0}), ("cohere", {})],
    )
    def test_a_scale_or_a_cap_on_the_logits_that_is_dropped(
        self, model_type: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rfr.model.embedding.measure_transform", lambda _: LogitTransform())
        assert self._verdict(model_type, **settings).attention is None

    def test_a_gradient_that_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LogitTransform, "pull_back", lambda self, gradient, logits: gradient)
        verdict = self._verdict("granite", logits_scaling=4.0)
        assert verdict.attention is None
        assert verdict.difference.startswith("the gradient of")


@pytest.mark.parametrize(
    ("model_type", "settings", "scale", "cap"),
    [
        ("granite", {"logits_scaling": 8.0}, 1 / 8, None), ("hyperclovax", {"logits_scaling": 0.5}, 0.5, None),
        ("cohere", {"logit_scale": 0.0625}, 0.0625, None), ("gemma2", {}, 1.0, 30.0), ("phi", {}, 1.0, None),
        ("recurrent_gemma", {}, 1.0, 30.0),
    ],
    ids=["granite divides", "hyperclovax multiplies", "cohere", "gemma2", "phi", "recurrent_gemma"],
)  # fmt: skip
def test_the_transform_of_the_logits_is_measured(
    model_type: str, settings: dict[str, float], scale: float, cap: float | None
) -> None:
    model = AutoModelForCausalLM.from_config(_small(model_type, **settings))
    transform = measure_transform(model)
    assert transform.scale == pytest.approx(scale, rel=1e-6)
    assert transform.cap == (None if cap is None else pytest.approx(cap))
    assert "forward" not in vars(model.get_output_embeddings())


def test_a_transform_other_than_scale_and_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_config(_small("gpt2"))
    real = model.forward

    def squared(**named: Any) -> Any:
        output = real(**named)
        output.logits = output.logits**2
        return output

    monkeypatch.setattr(model, "forward", squared)
    with pytest.raises(UserError, match=r"^GPT2LMHeadModel does more to its logits than"):
        logit_transform.measure_transform(model)


@pytest.mark.parametrize("transform", [LogitTransform(0.25), LogitTransform(1.0, 3.0), LogitTransform(2.0, 5.0)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_chunked_loss_and_its_gradients_are_autograds(transform: LogitTransform, with_bias: bool) -> None:
    from rfr.model.output_layer import weighted_nll

    torch.manual_seed(0)
    hidden, matrix = torch.randn(300, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    bias = torch.randn(50, requires_grad=True) if with_bias else None
    labels, weights = torch.randint(0, 50, (300,)), torch.rand(300)
    given = [tensor for tensor in (hidden, matrix, bias) if tensor is not None]
    loss, nll = weighted_nll(hidden, Unembedding(matrix, bias, transform), labels, weights)
    z = (hidden @ matrix.T + (0 if bias is None else bias)) * transform.scale
    logits = z if transform.cap is None else transform.cap * torch.tanh(z / transform.cap)
    exact = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(nll, exact, atol=1e-5)
    stories = zip(torch.autograd.grad(3 * loss, given), torch.autograd.grad(3 * (weights * exact).sum(), given), strict=True)
    for one, other in stories:
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        (GPT2Config(attn_pdrop=0.1, resid_pdrop=0.2), 0.0), (_config("opt", dropout=0.3, attention_dropout=0.1), 0.25),
        (_config("phi", resid_pdrop=0.4), 0.25), (_config("falcon", hidden_dropout=0.4), 0.0),
    ],
    ids=["gpt2", "opt", "phi", "falcon"],
)  # fmt: skip
def test_dropout_reaches_every_place(config: PretrainedConfig, rate: float) -> None:
    model = build_model(WeightSource("random", None, lambda: shrink(config)), dropout=rate, attention="eager")
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates <= {rate}
    names = [name for name in vars(model.config) if "dropout" in name or name.endswith("pdrop")]
    assert {getattr(model.config, name) for name in names} - {None} == {rate}
    tokens = torch.randint(3, 90, (1, 20))
    one, other = (model.train()(input_ids=tokens).logits for _ in range(2))
    assert torch.equal(one, other) == (rate == 0)


def test_a_setting_that_skips_whole_layers_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    build_model(WeightSource("random", None, lambda: _small("opt", layerdrop=0.1)), dropout=0.1)
    assert "layerdrop skips whole layers, which model.dropout does not: set to 0" in capsys.readouterr().out


@pytest.mark.parametrize("window", [1, 5, 40, 128, 500, None])
@pytest.mark.parametrize("softcap", [None, 2.0], ids=["no cap", "capped"])
@pytest.mark.parametrize("sinks", [False, True], ids=["no sinks", "sinks"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_by_document_is_the_dense_masks(
    window: int | None, softcap: float | None, sinks: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    documents = torch.tensor([[1] * 150 + [2] * 140 + [0] * 10, [1] * 300])
    given = [torch.randn(2, heads, 300, 8).to(dtype) for heads in (4, 2, 2)]
    if sinks:
        given.append(torch.tensor([-3.0, 0.0, 1.0, 4.0]).to(dtype))
    outputs = []
    for mask in (documents[:, None, None, :], attention.dense_mask(documents)):
        inputs = [tensor.clone().requires_grad_() for tensor in given]
        module = torch.nn.Module()
        module.num_key_value_groups = 2  # type: ignore[assignment]
        asked: dict[str, Any] = {"sliding_window": window, "softcap": softcap, "s_aux": inputs[3] if sinks else None}
        mixed, _ = attention.isolated_documents(module, inputs[0], inputs[1], inputs[2], mask, **asked)
        scale = torch.linspace(-1, 1, mixed.numel()).view_as(mixed)
        outputs.append([mixed, *torch.autograd.grad((mixed.float() * scale).sum(), inputs)])
    for one, other in zip(*outputs, strict=True):
        relative, absolute = TOLERANCE if dtype == torch.float32 else BF16_TOLERANCE
        assert torch.allclose(one.float(), other.float(), rtol=relative, atol=absolute)


def test_a_shrunken_config_keeps_each_kind_of_layer() -> None:
    gemma = _small("gemma3_text")
    assert gemma.layer_types == ["sliding_attention", "full_attention"]
    assert gemma.sliding_window < min(probe.DOCUMENT_TOKENS)
    llama = shrink(LlamaConfig(num_attention_heads=32, num_key_value_heads=8))
    assert 1 < llama.num_key_value_heads < llama.num_attention_heads

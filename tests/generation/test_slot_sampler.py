"""What the slots write is what the policy's own forward pass gives, whoever the neighbours are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PretrainedConfig, PreTrainedModel

from rfr.errors import UserError
from rfr.generation import slot_attention, slot_sampler, token_draw
from rfr.generation.slot_attention import LENGTH_STEP
from rfr.generation.slot_cache import SlotCache
from rfr.generation.slot_sampler import Request, SlotSampler, WrittenTokens
from rfr.generation.token_draw import Truncation
from rfr.generation.uniforms import uniforms
from rfr.generation.written_out import written_out
from rfr.model.attention import NAME as ATTENTION
from rfr.model.attention import hidden_states
from rfr.model.embedding import replace_ends
from rfr.model.probe import draw_weights
from rfr.records import IGNORE, Batch

EOS, VOCABULARY = 0, 211
PLAIN = Truncation(1.0, 0, 1.0)
NUCLEUS = Truncation(0.9, 0, 0.95)
CONFIGS: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_layer=2, n_head=2, n_embd=64, n_positions=96, bos_token_id=0, eos_token_id=0),
    "llama": LlamaConfig(
        vocab_size=VOCABULARY, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=96,
        intermediate_size=160, max_position_embeddings=96, bos_token_id=0, eos_token_id=0, attention_bias=True,
    ),
}  # fmt: skip
# Whole models compiled, with packed matrices or as they are; modules with the compiled kernels; modules and torch alone.
WAYS = ("compiled", "packed", "modules", "sdpa")


def _model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    config = CONFIGS[name]
    config.activation_function = "gelu_pytorch_tanh"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)
    return replace_ends(draw_weights(model).eval().to(dtype))


@pytest.fixture(params=list(CONFIGS))
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return _model(request.param)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    _take(request.param, monkeypatch)
    return str(request.param)


def _take(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "packed":
        monkeypatch.setattr("rfr.generation.written_out.PACKED", (0, VOCABULARY**9))
    elif way != "compiled":
        monkeypatch.setattr(slot_sampler, "written_out", lambda _: None)
    if way == "sdpa":
        for module in (slot_attention, token_draw):
            monkeypatch.setattr(module, "kernels_for", lambda _: None)


def _requests(count: int, limit: int = 30, seed: int = 0, longest: int = 40) -> list[Request]:
    """On prompts of 1 to `longest` tokens; every third one has the prompt of the one before."""
    generator, asked = np.random.default_rng(11), list[Request]()
    for index in range(count):
        ids = tuple(generator.integers(1, VOCABULARY, generator.integers(1, longest + 1)).tolist())
        ids = asked[-1].prompt_ids if index % 3 == 2 else ids
        asked.append(Request(index=index, prompt_ids=ids, limit=limit, uniforms=uniforms(seed, str(ids), index, limit)))
    return asked


def _written(
    model: PreTrainedModel, asked: list[Request], truncation: Truncation = NUCLEUS, slots: int = 8, lanes: int = 2
) -> list[WrittenTokens]:  # fmt: skip
    stories = {story.index: story for story in SlotSampler(model, EOS, truncation, slots, lanes)(asked)}
    assert len(stories) == len(asked)
    return [stories[request.index] for request in asked]


@torch.no_grad()
def _full(model: PreTrainedModel, request: Request, story: WrittenTokens) -> torch.Tensor:
    """Logits of each token of a story by one pass over it all."""
    ids = torch.tensor([[*request.prompt_ids, *story.ids.tolist()]])
    return model(input_ids=ids, use_cache=False).logits[0, len(request.prompt_ids) - 1 : -1].float()


@contextmanager
def _recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Tensor]]:
    """The logits that tokens are drawn from, in the order of the steps; on one lane."""
    seen: list[torch.Tensor] = []
    real = slot_sampler.draw_tokens

    def draw(logits_SV: torch.Tensor, *rest: torch.Tensor) -> token_draw.Tokens:
        seen.append(logits_SV.clone())
        return real(logits_SV, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(slot_sampler, "draw_tokens", draw)
    yield seen


def _largest_error(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> float:
    """Of step t's logits, in shares of the largest; slots have neighbours that are at their end, and others that go on."""
    asked = [*_requests(4, limit=5), *_requests(8, limit=30)[4:]]
    with _recorded(monkeypatch) as seen:
        stories = _written(model, asked, PLAIN, slots=len(asked), lanes=1)
    in_slots = sorted(asked, key=lambda request: (len(request.prompt_ids), request.prompt_ids, request.index))
    worst = 0.0
    for slot, request in enumerate(in_slots):
        story = stories[request.index]
        full_TV = _full(model, request, story)
        own_TV = torch.stack([step[slot] for step in seen[: len(story.ids)]])
        worst = max(worst, float((own_TV - full_TV).abs().max() / full_TV.abs().max()))
    return worst


def test_each_steps_logits_are_those_of_a_full_pass(model: PreTrainedModel, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _largest_error(model, monkeypatch) < 1e-4


def test_a_broken_sampler_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is off by one; then the keys of a neighbour."""
    model = _model("gpt2")
    _take("modules", monkeypatch)
    real = SlotCache.begin
    with monkeypatch.context() as broken:
        broken.setattr(
            SlotCache, "begin", lambda self, slot, prefix, row, tokens: real(self, slot, prefix, row, max(0, tokens - 1))
        )
        assert _largest_error(model, broken) > 1e-3
    with monkeypatch.context() as broken:
        broken.setattr(SlotCache, "begin", lambda self, slot, prefix, row, tokens: real(self, slot, prefix, 0, tokens))
        assert _largest_error(model, broken) > 1e-3
    assert _largest_error(model, monkeypatch) < 1e-4


def test_greedy_stories_are_those_of_generate(model: PreTrainedModel, way: str) -> None:
    asked = _requests(9, limit=20)
    for request, story in zip(asked, _written(model, asked, Truncation(1.0, 1, 1.0), slots=4), strict=True):
        theirs = model.generate(  # type: ignore[operator]
            input_ids=torch.tensor([request.prompt_ids]), do_sample=False, max_new_tokens=20, eos_token_id=EOS, pad_token_id=EOS
        )[0, len(request.prompt_ids) :]
        assert story.ids.tolist() == theirs.tolist()
        assert (story.drawn_logprobs == 0).all()


def test_log_probabilities_are_those_of_training(model: PreTrainedModel, way: str) -> None:
    asked = _requests(9, limit=25)
    for request, story in zip(asked, _written(model, asked), strict=True):
        whole = torch.tensor([[*request.prompt_ids, *story.ids.tolist()]])
        labels = whole[:, 1:].clone()
        labels[:, : len(request.prompt_ids) - 1] = IGNORE
        batch = Batch(
            input_ids_BT=whole[:, :-1], labels_BT=labels, weights_BT=torch.ones(labels.shape), target_tokens=1,
            positions_BT=torch.arange(labels.shape[1])[None], documents_BT=torch.ones_like(labels),
        )  # fmt: skip
        with torch.no_grad():
            wanted = labels != IGNORE
            head: Any = model.get_output_embeddings()
            _, nll = head(hidden_states(model, batch)[wanted], labels[wanted], torch.ones(int(wanted.sum())))
        np.testing.assert_allclose(story.logprobs, -nll.numpy(), atol=1e-4)
        scaled = _full(model, request, story) / NUCLEUS.temperature
        assert (
            story.drawn_logprobs
            >= scaled.log_softmax(-1).gather(1, whole[0, len(request.prompt_ids) :, None])[:, 0].numpy() - 1e-4
        ).all()


def _near_a_boundary(model: PreTrainedModel, request: Request, story: WrittenTokens, place: int) -> bool:
    """Whether a token's random number lies within 1e-5 of where another token begins."""
    probabilities = token_draw.truncated(_full(model, request, story)[place : place + 1], NUCLEUS)[0].double()
    ends = probabilities.cumsum(0) / probabilities.sum()
    return bool((ends - request.uniforms[place]).abs().min() < 1e-5)


def _require_same_with_any_slots(model: PreTrainedModel, asked: list[Request]) -> list[WrittenTokens]:
    """Each story the same, or the first other token's random number at a boundary."""
    one, *others = (_written(model, asked, slots=slots) for slots in (64, 7, 1))
    for other in others:
        for request, story, same in zip(asked, one, other, strict=True):
            if not np.array_equal(story.ids, same.ids):
                place = int(np.flatnonzero(story.ids[: len(same.ids)] != same.ids[: len(story.ids)])[0])
                assert _near_a_boundary(model, request, story, place)
    return one


def test_stories_do_not_depend_on_the_number_of_slots(model: PreTrainedModel) -> None:
    stories = _require_same_with_any_slots(model, _requests(200, limit=24))
    assert {story.ended for story in stories} == {False, True}
    assert len({tuple(story.ids) for story in stories}) > 150


@pytest.mark.slow
def test_nor_with_gpt2s_shape() -> None:
    torch.manual_seed(0)
    config = GPT2Config(activation_function="gelu_pytorch_tanh", eos_token_id=EOS, bos_token_id=EOS)
    model = replace_ends(AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION).eval())
    _require_same_with_any_slots(model, _requests(200, limit=8))


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("way", WAYS)
def test_in_bf16_neighbours_change_nothing(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(name, torch.bfloat16)
    _take(way, monkeypatch)
    asked = _requests(40, limit=24)
    mine, beside_others = _written(model, asked), _written(model, [asked[7], *asked[20:]])
    for story, same in zip([mine[7], *mine[20:]], beside_others, strict=True):
        assert np.array_equal(story.ids, same.ids)
        assert np.array_equal(story.logprobs, same.logprobs)


def test_a_story_ends_with_its_end_token_or_at_its_limit(model: PreTrainedModel) -> None:
    for story in _written(model, _requests(60, limit=12)):
        assert story.ended == (story.ids[-1] == EOS)
        assert EOS not in story.ids[:-1]
        assert len(story.ids) == 12 or story.ended
        assert len(story.ids) == len(story.logprobs) == len(story.drawn_logprobs)


def test_an_error_in_a_lane_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> token_draw.Tokens:
        raise RuntimeError("a lane broke")

    monkeypatch.setattr(slot_sampler, "draw_tokens", fail)
    with pytest.raises(RuntimeError, match="a lane broke"):
        _written(_model("gpt2"), _requests(9), lanes=3)


def test_lanes_end_when_nobody_takes_their_stories_any_more() -> None:
    threads = torch.get_num_threads()
    stories = SlotSampler(_model("gpt2"), EOS, NUCLEUS, 4, lanes=threads + 1)(_requests(300))
    assert next(stories).ids.size > 0
    stories.close()  # type: ignore[attr-defined]
    assert torch.get_num_threads() == threads


def test_slots_that_do_not_fit_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("gpt2", torch.float32)
    config = model.config
    of_a_token = 2 * 4 * config.num_hidden_layers * config.hidden_size
    free = int(5.5 * of_a_token * LENGTH_STEP)
    monkeypatch.setattr("rfr.generation.slot_cache.free_bytes", lambda device: free)
    request = Request(index=0, prompt_ids=(1, 2, 3), limit=8, uniforms=np.zeros(8))
    truncation = Truncation(temperature=1.0, top_k=0, top_p=1.0)
    with pytest.raises(UserError, match=r"6 stories of 64 tokens at once take .* GiB, .* are free: set sampling\.slots=5"):
        list(SlotSampler(model, 0, truncation, 6, lanes=1)([request]))
    assert len(list(SlotSampler(model, 0, truncation, 5, lanes=1)([request]))) == 1


@torch.no_grad()
def test_a_gate_far_below_zero_is_shut() -> None:
    """Of such a gate e to the power of minus its input is more than a float can hold."""
    model, ids = _model("llama"), torch.arange(1, 9)
    for layer in model.model.layers:
        layer.mlp.gate_proj.weight.mul_(1e4)
    make_pass = written_out(model)
    assert make_pass is not None
    compiled = make_pass(len(ids))
    cache = SlotCache(len(ids), LENGTH_STEP, model.device)
    cache.allocate(*compiled.cache_shape, model.dtype)
    expected = model(input_ids=ids[:, None]).logits[:, 0]
    assert (compiled.logits(ids, cache) - expected).abs().max() <= 1e-4 * expected.abs().max()

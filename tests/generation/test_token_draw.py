"""Tokens are drawn exactly from what temperature, top-k and top-p leave, by the kernel and by torch alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from rfr.generation.token_draw import Tokens, Truncation, draw_tokens, draw_with_torch
from rfr.generation.uniforms import uniforms

DRAWS = 20_000
TRUNCATIONS = [
    Truncation(1.0, 0, 1.0), Truncation(0.7, 0, 1.0), Truncation(1.3, 5, 1.0), Truncation(1.0, 0, 0.8), Truncation(0.9, 12, 0.6),
]  # fmt: skip
Draw = Callable[[torch.Tensor, torch.Tensor, Truncation], Tokens]


def _exact(logits_V: torch.Tensor, truncation: Truncation) -> np.ndarray:
    """As transformers has it, in fp64."""
    scores = TemperatureLogitsWarper(truncation.temperature)(None, logits_V.double()[None])
    if truncation.top_k:
        scores = TopKLogitsWarper(truncation.top_k)(None, scores)
    if truncation.top_p < 1:
        scores = TopPLogitsWarper(truncation.top_p)(None, scores)
    return scores.softmax(-1)[0].numpy()


@pytest.mark.parametrize("draw", [draw_tokens, draw_with_torch])
@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_draws_follow_the_exact_distribution(draw: Draw, truncation: Truncation) -> None:
    logits = torch.randn(97, generator=torch.Generator().manual_seed(3)) * 1.5
    exact = _exact(logits, truncation)
    u = torch.from_numpy(np.random.default_rng(5).random(DRAWS))
    drawn = draw(logits.expand(DRAWS, -1), u, truncation)
    counts = np.bincount(drawn.ids_S.numpy(), minlength=97)
    assert counts[exact == 0].sum() == 0
    likely = exact * DRAWS >= 5
    seen, expected = np.append(counts[likely], counts[~likely].sum()), np.append(exact[likely], exact[~likely].sum()) * DRAWS
    kept = expected > 0
    assert chisquare(seen[kept], expected[kept]).pvalue > 1e-3
    ids = drawn.ids_S.numpy()
    np.testing.assert_allclose(drawn.drawn_logprobs_S.numpy(), np.log(exact[ids]), atol=1e-5)
    np.testing.assert_allclose(drawn.logprobs_S.numpy(), logits.log_softmax(-1).numpy()[ids], atol=1e-5)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_the_kernel_and_torch_draw_the_same(truncation: Truncation) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(64, 5003, generator=generator) * torch.linspace(0.01, 6, 64)[:, None]  # from flat to peaked
    u = torch.rand(64, dtype=torch.float64, generator=generator)
    one, other = draw_tokens(logits, u, truncation), draw_with_torch(logits, u, truncation)
    assert torch.equal(one.ids_S, other.ids_S)
    torch.testing.assert_close(one.drawn_logprobs_S, other.drawn_logprobs_S, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.logprobs_S, other.logprobs_S, atol=1e-4, rtol=0)


@pytest.mark.parametrize("draw", [draw_tokens, draw_with_torch])
def test_of_equal_tokens_the_first_are_kept(draw: Draw) -> None:
    logits, u = torch.zeros(1000, 8), torch.from_numpy(np.random.default_rng(0).random(1000))
    assert set(draw(logits, u, Truncation(1.0, 3, 1.0)).ids_S.tolist()) == {0, 1, 2}
    assert set(draw(logits, u, Truncation(1.0, 0, 0.5)).ids_S.tolist()) == {0, 1, 2, 3}
    assert set(draw(logits, u, Truncation(1.0, 0, 1.0)).ids_S.tolist()) == set(range(8))


@pytest.mark.parametrize("draw", [draw_tokens, draw_with_torch])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ends_of_the_random_number_give_tokens_that_can_be_drawn(draw: Draw, dtype: torch.dtype) -> None:
    logits = torch.full((2, 130), -torch.inf, dtype=dtype)
    logits[:, 70], logits[:, 101] = 1.0, 0.5
    drawn = draw(logits, torch.tensor([0.0, 1 - 1e-16], dtype=torch.float64), Truncation(1.0, 0, 1.0))
    assert drawn.ids_S.tolist() == [70, 101]
    assert torch.isfinite(drawn.logprobs_S).all()


def test_random_numbers_depend_on_the_story_alone() -> None:
    assert np.array_equal(uniforms(1, "[WP] a", 0, 5), uniforms(1, "[WP] a", 0, 50)[:5])
    others = [uniforms(2, "[WP] a", 0, 5), uniforms(1, "[WP] b", 0, 5), uniforms(1, "[WP] a", 1, 5)]
    assert all(not np.allclose(uniforms(1, "[WP] a", 0, 5), other) for other in others)
    many = np.concatenate([uniforms(0, "p", number, 10) for number in range(2000)])
    assert abs(many.mean() - 0.5) < 0.01
    assert 0 <= many.min() < many.max() < 1

"""Weights and the loss: cloning is reward weighting with constant weights, to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from rfr.errors import UserError
from rfr.model import output_layer
from rfr.model.embedding import Head
from rfr.model.output_layer import Unembedding, weighted_nll
from rfr.objective.baselines import PromptValue, ThreadMean, advantages
from rfr.objective.losses import WeightedNLL
from rfr.objective.raw_weights import Constant, Exponential, Linear, Positive, Top, effective_sample_size, exponential_weights
from rfr.objective.story_weights import story_weights
from rfr.records import IGNORE, Batch, Story

RNG = np.random.default_rng(0)
REWARDS = RNG.normal(size=500)
TOKENS = RNG.integers(5, 900, size=500)


def test_constant_weights_are_exactly_one() -> None:
    weights, health = story_weights(Constant(), REWARDS, TOKENS)
    assert (weights == 1.0).all()
    assert health.ess == 1.0


def test_weights_have_a_token_weighted_mean_of_one() -> None:
    weights, health = story_weights(Exponential(beta=0.7), REWARDS, TOKENS)
    assert np.isclose((weights * TOKENS).sum() / TOKENS.sum(), 1, rtol=1e-12)
    assert 0 < health.ess < 1
    ratio = weights[3] / weights[8]
    assert np.isclose(ratio, np.exp((REWARDS[3] - REWARDS[8]) / 0.7))


def test_gaussian_rewards_follow_the_known_law() -> None:
    """ESS/N = exp(-1 / beta^2) for standard normal rewards."""
    many = np.random.default_rng(1).normal(size=400_000)
    assert np.isclose(effective_sample_size(exponential_weights(many, 1.0)), np.exp(-1), rtol=0.03)


@pytest.mark.parametrize("target", [0.05, 0.3, 0.5, 0.9])
def test_beta_is_solved_for_the_target(target: float) -> None:
    _, health = story_weights(Exponential(target_ess=target), REWARDS * 1000, TOKENS)
    assert abs(health.ess - target) < 0.01 * target


def test_the_best_share_and_all_that_tie_with_its_last() -> None:
    assert story_weights(Top(share=0.2), np.arange(10.0), np.ones(10))[0].tolist() == [0] * 8 + [5] * 2
    weights, health = story_weights(Top(share=0.2), np.repeat([0.0, 1.0], 5), np.ones(10))
    assert weights.tolist() == [0] * 5 + [2] * 5
    assert health.ess == 0.5
    assert health.figures == {"cut": 1.0}


def test_stories_no_better_than_their_baseline_are_left_out() -> None:
    weights, health = story_weights(Positive(), np.array([-3.0, 0.0, 1.0, 3.0]), np.ones(4))
    assert weights.tolist() == [0, 0, 1, 3]
    assert health.largest_share == 0.75


def test_linear_weights_never_fall_below_zero() -> None:
    rewards = np.array([-1.0, 1.0, -1.0, 1.0])
    assert np.allclose(story_weights(Linear(slope=0.5), rewards, np.ones(4))[0], [0.5, 1.5, 0.5, 1.5])
    assert np.allclose(story_weights(Linear(slope=2.0), rewards, np.ones(4))[0], [0, 2, 0, 2])


def test_clipping_is_told_beside_what_was_there_before() -> None:
    rewards = np.log(np.array([1.0] * 98 + [51.0, 51.0]))  # exp(r) has the mean 2
    plain, before = story_weights(Exponential(beta=1.0), rewards, np.ones(100))
    clipped, after = story_weights(Exponential(beta=1.0), rewards, np.ones(100), clip=5)
    assert np.isclose(plain[-1] / plain[0], 51)
    assert np.isclose(clipped[-1] / clipped[0], 10)
    assert np.isclose(clipped.mean(), 1)
    assert after.ess_unclipped == before.ess == before.ess_unclipped < after.ess
    assert np.isclose(before.ess, 200**2 / (98 + 2 * 51**2) / 100)
    assert (before.clipped_share, after.clipped_share) == (0, 0.02)
    assert before.entropy < after.entropy < 1
    assert "before clipping" in after.shown()["ESS/N"]


def test_a_target_is_met_before_clipping() -> None:
    _, health = story_weights(Exponential(target_ess=0.2), REWARDS, TOKENS, clip=2.5)
    assert abs(health.ess_unclipped - 0.2) < 0.002 < health.ess - 0.2
    assert health.as_dict()["beta"] > 0


def test_equal_weights_are_as_even_as_can_be() -> None:
    _, health = story_weights(Constant(), REWARDS, np.ones(500), clip=20)
    assert np.isclose(health.entropy, 1)
    assert health.clipped_share == 0
    assert story_weights(Constant(), np.zeros(1), np.ones(1))[1].entropy == 1


def _stories(threads: str) -> list[Story]:
    return [Story(thread_id=t, reply_id=str(i), prompt=f"[WP] {t}", response="x") for i, t in enumerate(threads)]


def test_a_reply_is_compared_with_the_threads_others() -> None:
    rewards = np.array([1.0, 2.0, 6.0, 10.0])
    baselines = ThreadMean(shrinkage=1.0)(rewards, _stories("aaab"))
    assert np.allclose(baselines, [(2 + 6 + 18 / 3) / 3, (1 + 6 + 17 / 3) / 3, (1 + 2 + 13 / 3) / 3, 9 / 3])
    assert np.allclose(ThreadMean(shrinkage=1e-9)(rewards, _stories("aaab")), [4, 3.5, 1.5, 3])


def test_a_prompts_own_rewards_have_no_part_in_its_value() -> None:
    stories = [
        replace(story, prompt=f"[WP] {'dragon' if i % 2 else 'wizard'} number {i // 3}")
        for i, story in enumerate(_stories("x" * 90))
    ]
    rewards = np.array([float(i % 2) for i in range(90)])
    values = PromptValue(ridge=0.1)(rewards, stories)
    assert values[1::2].mean() > 0.7 > 0.4 > values[::2].mean(), "the words tell"
    other = rewards.copy()
    other[[0, 2]] += 1e6  # all rewards of the first prompt
    moved = PromptValue(ridge=0.1)(other, stories)
    assert stories[0].prompt == stories[2].prompt
    assert values[0] == moved[0]
    assert (values != moved).any()


def test_advantages_have_one_scale_and_keep_their_sign() -> None:
    stories = _stories("aaabbbccc")
    rewards = np.array([1.0, 2, 3, 10, 20, 30, -5, -6, -7])
    scaled, larger = advantages(rewards, stories, ThreadMean()), advantages(1000 * rewards, stories, ThreadMean())
    assert np.allclose(scaled, larger)
    assert np.isclose(scaled.std(), 1)
    assert np.array_equal(np.sign(scaled), np.sign(rewards - ThreadMean()(rewards, stories)))
    assert np.array_equal(advantages(rewards, stories, None), rewards)


@pytest.mark.parametrize(
    ("make", "rewards", "message"),
    [
        (lambda: Exponential(beta=0.0), REWARDS, "above 0"),
        (lambda: Exponential(beta=-1.0), REWARDS, "above 0"),
        (lambda: Exponential(), REWARDS, "beta or"),
        (lambda: Exponential(target_ess=1.5), REWARDS, "between 0 and 1"),
        (lambda: Exponential(beta=1.0), np.ones(4), "all rewards are equal"),
        (lambda: Exponential(target_ess=0.1), np.array([1.0] * 9 + [0.0]), "out of reach"),
        (lambda: Constant(), np.array([1.0, np.nan]), "NaN"),
        (lambda: Exponential(beta=np.nan), REWARDS, "above 0"),
        (lambda: Top(share=1.0), REWARDS, "between 0 and 1"),
        (lambda: Top(), np.ones(4), "all rewards are equal"),
        (lambda: Linear(slope=0.0), REWARDS, "above 0"),
        (lambda: Linear(), np.ones(4), "all rewards are equal"),
        (lambda: Positive(), -np.arange(4.0), "no story is better than its baseline"),
    ],
)
def test_bad_input(make: object, rewards: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        story_weights(make(), rewards, np.ones(len(rewards)))  # type: ignore[operator]


def test_below_the_floor_there_is_no_run() -> None:
    heavy = np.array([0.0] * 99 + [50.0])
    with pytest.raises(
        UserError, match=r"ESS/N = 0\.01, below objective.ess_floor=0.02: one of 100 stories holds 100% .*=thread_rank"
    ):
        story_weights(Exponential(beta=1.0), heavy, np.ones(100), ess_floor=0.02)
    assert story_weights(Exponential(beta=1.0), heavy, np.ones(100), clip=2, ess_floor=0.009)[1].ess > 0.009
    for wrong in ({"clip": 1.0}, {"clip": -3.0}, {"ess_floor": 1.0}, {"ess_floor": -0.1}):
        with pytest.raises(UserError, match="objective"):
            story_weights(Constant(), REWARDS, TOKENS, **wrong)


def _batch(weights: torch.Tensor, labels: torch.Tensor, target_tokens: int | None = None) -> Batch:
    zeros = torch.zeros_like(labels)
    return Batch(
        input_ids_BT=zeros, labels_BT=labels, positions_BT=zeros, documents_BT=zeros, weights_BT=weights,
        target_tokens=target_tokens or int((labels != IGNORE).sum()),
    )  # fmt: skip


def test_the_loss_is_the_weighted_sum_over_the_targets() -> None:
    torch.manual_seed(0)
    hidden, head, labels = torch.randn(2, 5, 6), Head(6, 11, bias=False), torch.randint(11, (2, 5))
    labels[0, :3] = IGNORE
    weights = torch.rand(2, 5)
    loss, shares = WeightedNLL()(hidden, head, _batch(weights, labels))
    expected = torch.zeros(())
    for b in range(2):
        for t in range(5):
            if labels[b, t] != IGNORE:
                expected -= weights[b, t] * head(hidden[b, t]).log_softmax(-1)[labels[b, t]]
    assert torch.isclose(loss, expected / 7)
    plain, _ = WeightedNLL()(hidden, head, _batch(torch.ones(2, 5), labels))
    assert torch.isclose(shares["nll_per_token"], plain)
    half, _ = WeightedNLL()(hidden, head, _batch(weights, labels, target_tokens=14))
    assert torch.isclose(half, loss / 2), "a share of a larger batch"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_in_chunks_the_loss_and_its_gradient_are_those_of_all_logits(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_layer, "CHUNK_ROWS_ON_CPU", 8)
    monkeypatch.setattr(output_layer, "PART_ROWS", 3)
    torch.manual_seed(0)
    hidden, unembedding = torch.randn(19, 6, dtype=dtype, requires_grad=True), torch.randn(11, 6, dtype=dtype, requires_grad=True)
    labels, weights = torch.randint(11, (19,)), torch.rand(19)
    weighted, nll = weighted_nll(hidden, Unembedding(unembedding), labels, weights)
    mine = torch.autograd.grad(weighted * 0.25, (hidden, unembedding))
    expected_nll = cross_entropy((hidden.float() @ unembedding.float().T), labels, reduction="none")
    expected = torch.autograd.grad((expected_nll * weights).sum() * 0.25, (hidden, unembedding))
    torch.testing.assert_close(nll, expected_nll, rtol=tolerance, atol=tolerance)
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=2 * tolerance)
        assert one.dtype == dtype


def test_fp16_logits_are_judged_in_fp32() -> None:
    """Their exponentials would overflow."""
    hidden, unembedding = torch.full((1, 1), 300.0, dtype=torch.float16), torch.tensor([[200.0], [0.0]], dtype=torch.float16)
    weighted, nll = weighted_nll(hidden, Unembedding(unembedding), torch.tensor([1]), torch.ones(1))
    assert weighted == nll == pytest.approx(60000.0)


def test_without_gradients_none_are_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head = torch.randn(40, 6, requires_grad=True), Head(6, 11, bias=False)
    labels, weights = torch.randint(11, (40,)), torch.rand(40)
    expected, _ = head(hidden, labels, weights)
    monkeypatch.setattr(output_layer, "_add_product", None)
    with torch.no_grad():
        assert head(hidden, labels, weights)[0] == expected
    with pytest.raises(TypeError):
        head(hidden, labels, weights)


def test_large_tensors_are_used_again_but_never_twice_at_once() -> None:
    """Two losses of one head before the first is gone back through."""
    torch.manual_seed(0)
    head, hidden, labels = Head(6, 11, bias=False), torch.randn(2, 40, 6), torch.randint(11, (2, 40))
    expected = torch.autograd.grad(head(hidden[0], labels[0], torch.ones(40))[0], head.weight)[0]
    expected += torch.autograd.grad(head(hidden[1], labels[1], torch.ones(40))[0], head.weight)[0]
    head.weight.grad = torch.zeros_like(head.weight)
    for _ in range(2):
        head.weight.grad.zero_()
        (head(hidden[0], labels[0], torch.ones(40))[0] + head(hidden[1], labels[1], torch.ones(40))[0]).backward()
        torch.testing.assert_close(head.weight.grad, expected)
        assert len(head._pool._tensors) == 3, "two gradients and one chunk of logits"


def test_rows_without_targets_cost_nothing() -> None:
    labels = torch.full((1, 4), IGNORE)
    hidden = torch.randn(1, 4, 7, requires_grad=True)
    loss, shares = WeightedNLL()(hidden, Head(7, 9, bias=False), _batch(torch.ones(1, 4), labels, target_tokens=12))
    assert loss == 0
    assert shares["nll_per_token"] == 0
    loss.backward()
    assert hidden.grad is not None
    assert (hidden.grad == 0).all()

"""The policy gradient and the divergences against what can be worked out exactly, on toys small enough to list all stories."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel

from rfr.evaluate.policy_divergence import divergence
from rfr.generation.slot_sampler import Request, SlotSampler
from rfr.generation.token_draw import Truncation
from rfr.model.attention import NAME as ATTENTION
from rfr.model.embedding import replace_ends
from rfr.model.output_layer import Unembedding, weighted_nll
from rfr.objective.losses import PolicyGradient
from rfr.objective.raw_weights import leave_one_out
from rfr.records import AdvantageBatch
from rfr.rollouts.round_stories import story_rows

STATES, TOKENS, DRAWN, STORIES = 3, 2, 400_000, 4


def test_rloo_is_the_exact_policy_gradient_of_a_toy() -> None:
    """Stories of two tokens out of two; what the second one is likely to be depends on the first."""
    torch.manual_seed(0)
    logits = torch.randn(TOKENS, STATES, requires_grad=True)
    reward = torch.tensor([[0.3, -1.0], [2.0, 0.5]])

    def logprob(first: Any, second: Any) -> torch.Tensor:
        of_state = logits.log_softmax(0)
        return of_state[first, 0] + of_state[second, 1 + first]

    expected = sum(logprob(a, b).exp() * reward[a, b] for a, b in product(range(TOKENS), repeat=2))
    (exact,) = torch.autograd.grad(expected, logits)  # type: ignore[arg-type]

    with torch.no_grad():
        of_state = logits.softmax(0)
        first = torch.multinomial(of_state[:, 0], DRAWN, replacement=True)
        second = (torch.rand(DRAWN) < of_state[1, 1 + first]).long()
    advantages = leave_one_out(reward[first, second].double().numpy().reshape(-1, STORIES)).ravel()
    labels = torch.stack([first, second], dim=1)
    batch = AdvantageBatch(
        input_ids_BT=labels, labels_BT=labels, positions_BT=labels,
        documents_BT=torch.arange(1, DRAWN + 1)[:, None].expand(-1, 2),
        advantage_S=torch.from_numpy(advantages).float(), drawn_S=torch.full((DRAWN,), torch.nan), stories=DRAWN,
        has_ratios=False,
        target_tokens=2 * DRAWN,
    )  # fmt: skip
    states = torch.nn.functional.one_hot(torch.stack([torch.zeros_like(first), 1 + first], dim=1), STATES).float()

    def head(hidden: torch.Tensor, labels_N: torch.Tensor, weights_N: torch.Tensor) -> Any:
        return weighted_nll(hidden, Unembedding(logits), labels_N, weights_N)

    loss, figures = PolicyGradient()(states, head, batch)
    (found,) = torch.autograd.grad(loss, logits)
    assert float((found + exact).norm()) <= 0.01 * float(exact.norm())
    assert float(figures["clipped_share"]) == 0


def test_ratios_are_clipped_where_they_have_gone_far_enough() -> None:
    """min(ratio A, clip(ratio) A) by autograd, story by story."""
    torch.manual_seed(1)
    stories = 64
    logits = torch.randn(TOKENS, STATES, requires_grad=True)
    labels = torch.randint(0, TOKENS, (stories, 2))
    states = torch.nn.functional.one_hot(torch.randint(0, STATES, (stories, 2)), STATES).float()
    logprob = (states @ logits.T).log_softmax(-1).gather(2, labels[..., None])[..., 0].sum(1)
    advantage, drawn = torch.randn(stories), logprob.detach() + 0.4 * torch.randn(stories)
    ratio = (logprob - drawn).exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.25) * advantage)
    (expected,) = torch.autograd.grad(-surrogate.sum() / stories, logits)
    batch = AdvantageBatch(
        input_ids_BT=labels, labels_BT=labels, positions_BT=labels,
        documents_BT=torch.arange(1, stories + 1)[:, None].expand(-1, 2), advantage_S=advantage, drawn_S=drawn, stories=stories,
        has_ratios=True,
        target_tokens=2 * stories,
    )  # fmt: skip

    def head(hidden: torch.Tensor, labels_N: torch.Tensor, weights_N: torch.Tensor) -> Any:
        return weighted_nll(hidden, Unembedding(logits), labels_N, weights_N)

    loss, figures = PolicyGradient()(states, head, batch)
    (found,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.detach(), -surrogate.sum().detach() / stories)
    went_too_far = torch.where(advantage > 0, ratio > 1.25, ratio < 0.8)
    assert 0.1 < float(figures["clipped_share"]) == float(went_too_far.float().mean()) < 0.9


def _toy(seed: int) -> PreTrainedModel:
    """Writes 'a', 'b' or an end, 4 tokens at most."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=3, n_layer=1, n_head=2, n_embd=8, n_positions=8, initializer_range=0.6, bos_token_id=0, eos_token_id=0,
        attn_pdrop=0, embd_pdrop=0, resid_pdrop=0,
    )  # fmt: skip
    return replace_ends(AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION).eval())


PROMPT, LIMIT = (1, 2), 4


@torch.no_grad()
def _every_story(model: PreTrainedModel) -> dict[tuple[int, ...], float]:
    """All stories and their log-probabilities."""
    told: dict[tuple[int, ...], float] = {}

    def go_on(story: tuple[int, ...], logprob: float) -> None:
        if len(story) == LIMIT or (story and story[-1] == 0):
            told[story] = logprob
            return
        ids = torch.tensor([[*PROMPT, *story]])
        logprobs = model(input_ids=ids, use_cache=False).logits[0, -1].double().log_softmax(-1)
        for token in range(3):
            go_on((*story, token), logprob + float(logprobs[token]))

    go_on((), 0.0)
    return told


def test_both_estimates_of_the_divergence_are_right_where_stories_end_at_random() -> None:
    policy, start = _toy(0), _toy(1)
    one, other = _every_story(policy), _every_story(start)
    assert sum(np.exp(list(one.values()))) > 0.999999
    exact = sum(np.exp(logprob) * (logprob - other[story]) for story, logprob in one.items())
    generator, drawn = np.random.default_rng(0), 5_000
    requests = [Request(index=index, prompt_ids=PROMPT, limit=LIMIT, uniforms=generator.random(LIMIT)) for index in range(drawn)]
    written = list(SlotSampler(policy, 0, Truncation(1.0, 0, 1.0), slots=1000)(requests))
    ended = np.array([story.ended for story in written])
    assert 0.2 < ended.mean() < 0.98, "some stories end, some are cut off"
    stories = [story.ids[: len(story.ids) - story.ended] for story in written]
    rows = story_rows([np.array(PROMPT, np.int32)] * drawn, stories, ~ended, 8, 0)
    found = divergence(policy, start, rows)
    assert abs(found.kl.mean() / exact - 1) < 0.02
    assert abs((found.policy_logprob - found.start_logprob).mean() / exact - 1) < 0.02
    assert found.kl.std() < 0.9 * (found.policy_logprob - found.start_logprob).std(), "the exact one varies less"
    by_listing = [one[tuple(story.ids.tolist())] for story in written]
    np.testing.assert_allclose(found.policy_logprob, by_listing, atol=1e-4)
    entropy = -sum(np.exp(logprob) * logprob for logprob in one.values())
    assert abs(found.entropy.mean() / entropy - 1) < 0.02

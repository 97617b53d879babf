"""What objectives make of a round: weights within prompts, advantages, pairs; and how rows are dealt over steps and ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from rfr.data.batches import AdvantageRows, PairRows, WeightedRows
from rfr.data.loader import Batching
from rfr.data.preference_pairs import Pairing
from rfr.data.prepare import Prepared
from rfr.errors import UserError
from rfr.model.attention import hidden_states
from rfr.model.embedding import output_layer, replace_ends
from rfr.objective.losses import DPO, PolicyGradient, WeightedNLL
from rfr.objective.own_stories import RewardedStories
from rfr.objective.raw_weights import Constant, Exponential, Linear, Positive, Top, WeightFunction, effective_sample_size
from rfr.objective.training_data import PairwiseObjective, PolicyGradientObjective, WeightedObjective
from rfr.records import Batch, PreferenceBatch
from rfr.rollouts.dealing import DealtRound, RoundLoader, deal
from rfr.rollouts.people_stories import PeopleStories
from rfr.rollouts.round_stories import story_rows

PROMPTS, STORIES = 6, 4
RLOO = PolicyGradientObjective(name="rloo", loss=PolicyGradient())
DPO_ = PairwiseObjective(name="dpo", loss=DPO(), pairing=Pairing())


def _weighted(weight: WeightFunction, baseline: Any = None) -> WeightedObjective:
    return WeightedObjective(name="w", loss=WeightedNLL(), weight=weight, baseline=baseline, clip=None, ess_floor=0.0)


def _round(prepared: Prepared, rewards: np.ndarray | None = None, steps: int = 1, people: int = 0) -> RewardedStories:
    """Stories of many lengths, some of them cut off; tokens are drawn from the vocabulary."""
    generator, count = np.random.default_rng(0), PROMPTS * STORIES + people
    prompts = [generator.integers(1, 600, 5 + number // STORIES).astype(np.int32) for number in range(count)]
    stories = [generator.integers(1, 600, generator.integers(4, 60)).astype(np.int32) for _ in range(count)]
    rows = story_rows(prompts, stories, generator.random(count) < 0.3, 128, 0)
    rewards = generator.normal(size=(PROMPTS, STORIES)) if rewards is None else rewards
    logprobs = -generator.uniform(50, 60, PROMPTS * STORIES)
    return RewardedStories(
        rows=rows, rewards_PK=rewards, policy_logprobs=logprobs, start_logprobs=np.append(logprobs - 1, -7.0 - np.arange(people)),
        steps=steps,
        people_weights=generator.uniform(0.5, 2, people),
    )  # fmt: skip


# --- weights


def test_a_round_whose_scores_are_alike_is_cloned(prepared: Prepared) -> None:
    alike = _round(prepared, np.full((PROMPTS, STORIES), 0.7))
    cloned = _weighted(Constant()).round_data(alike)
    for weight in (Exponential(target_ess=0.3), Top(share=0.25), Positive(), Linear()):
        learned = _weighted(weight).round_data(alike)
        np.testing.assert_array_equal(learned.weights, cloned.weights)
        everything = np.arange(len(learned.source))
        one, other = (data.source.batch(everything, everything) for data in (learned, cloned))
        assert isinstance(one, Batch)
        assert isinstance(other, Batch)
        assert torch.equal(one.weights_BT, other.weights_BT)
        assert one.weights_BT.unique().tolist() == [1.0]


@pytest.mark.parametrize("weight", [Exponential(target_ess=0.4), Exponential(beta=0.5), Top(share=0.3), Positive(), Linear()])
def test_prompts_weigh_the_same_and_better_stories_more(prepared: Prepared, weight: WeightFunction) -> None:
    stories = _round(prepared)
    data = _weighted(weight).round_data(stories)
    weights_PK = data.weights.reshape(PROMPTS, STORIES)
    np.testing.assert_allclose(weights_PK.sum(axis=1), weights_PK.sum() / PROMPTS, rtol=1e-12)
    for rewards, weights in zip(stories.rewards_PK, weights_PK, strict=True):
        assert (np.diff(weights[np.argsort(rewards)]) >= 0).all()
        assert weights.max() > weights.min()
    tokens = stories.target_tokens
    assert (data.weights * tokens).sum() == pytest.approx(tokens.sum())


def test_beta_is_solved_for_the_mean_effective_sample_size_within_prompts(prepared: Prepared) -> None:
    """However far the prompts lie apart, which would rule weights over all stories."""
    rewards = np.random.default_rng(1).normal(size=(PROMPTS, STORIES)) + 100 * np.arange(PROMPTS)[:, None]
    data = _weighted(Exponential(target_ess=0.4)).round_data(_round(prepared, rewards))
    within = [effective_sample_size(row) for row in data.weights.reshape(PROMPTS, STORIES)]
    assert np.mean(within) == pytest.approx(0.4, abs=1e-4)
    assert data.figures["ess_within_prompts"] == pytest.approx(0.4, abs=1e-4)
    assert data.figures["weights_ess"] > 0.3


def test_ties_that_put_the_target_out_of_reach_leave_the_best_stories(prepared: Prepared) -> None:
    rewards = np.tile([0.0, 1.0, 1.0, 1.0], (PROMPTS, 1))
    data = _weighted(Exponential(target_ess=0.3)).round_data(_round(prepared, rewards))
    weights_PK = data.weights.reshape(PROMPTS, STORIES)
    assert weights_PK[:, 0].max() < 1e-6
    np.testing.assert_allclose(weights_PK[:, 1:], weights_PK.max())


def test_rejection_sampling_keeps_the_best_of_each_prompt(prepared: Prepared) -> None:
    stories = _round(prepared)
    kept = _weighted(Top(share=0.25)).round_data(stories).weights.reshape(PROMPTS, STORIES) > 0
    assert (kept.sum(axis=1) == 1).all()
    assert (kept.argmax(axis=1) == stories.rewards_PK.argmax(axis=1)).all()


def test_advantages_of_a_prompt_add_up_to_0(prepared: Prepared) -> None:
    stories = _round(prepared)
    data = RLOO.round_data(stories)
    np.testing.assert_allclose(data.weights.reshape(PROMPTS, STORIES).sum(axis=1), 0, atol=1e-12)
    others = (stories.rewards_PK.sum(axis=1, keepdims=True) - stories.rewards_PK) / (STORIES - 1)
    np.testing.assert_allclose(data.weights, (stories.rewards_PK - others).ravel())


def test_dpo_compares_the_best_with_the_worst(prepared: Prepared) -> None:
    stories = _round(prepared)
    stories.rewards_PK[2] = 0.5  # nothing to compare there
    data = DPO_.round_data(stories)
    assert isinstance(data.source, PairRows)
    pairs = data.source.comparisons
    assert len(data.source) == PROMPTS - 1
    chosen, rejected = pairs.story[pairs.chosen], pairs.story[pairs.rejected]
    kept = [0, 1, 3, 4, 5]
    assert (chosen == [p * STORIES + stories.rewards_PK[p].argmax() for p in kept]).all()
    assert (rejected == [p * STORIES + stories.rewards_PK[p].argmin() for p in kept]).all()
    everything = np.arange(len(data.source))
    batch = data.source.batch(everything, everything)
    assert batch.reference_S.tolist() == pytest.approx(stories.start_logprobs[pairs.story].tolist())
    assert batch.target_tokens == stories.target_tokens[pairs.story].sum()
    assert sorted(np.unique(data.weights)) == [-1, 0, 1]


def test_peoples_pairs_stand_beside_those_of_the_policy(prepared: Prepared) -> None:
    stories = _round(prepared, people=4)
    data = DPO_.round_data(stories)
    assert isinstance(data.source, PairRows)
    assert data.people.tolist() == [False] * PROMPTS + [True] * 2
    pairs, own = data.source.comparisons, PROMPTS * STORIES
    assert pairs.story[pairs.chosen][-2:].tolist() == [own, own + 2]
    assert pairs.story[pairs.rejected][-2:].tolist() == [own + 1, own + 3]
    assert data.source.batch(np.array([PROMPTS]), np.arange(len(data.source))).reference_S.tolist() == [-7, -8]
    assert len(data.weights) == own, "people's stories are not kept with the round"


def test_the_two_stories_of_a_pair_are_drawn_together(prepared: Prepared) -> None:
    split = prepared.train
    pairs = Pairing()(np.arange(len(split.stories), dtype=float), split.stories.column("thread_id"), split.target_tokens)
    drawn = PeopleStories(split.rows, PairRows(split.rows, pairs), 7, 0)(1)
    assert drawn.weights.tolist() == [1, -1] * 3, "a pair is whole or left out"
    texts = {tuple(split.rows.tokens[text:end][: len(story)]): number
             for number, (_, text, end) in enumerate(split.rows.stories) for story in drawn.stories}  # fmt: skip
    numbers = [texts[tuple(story)] for story in drawn.stories]
    known = set(zip(pairs.story[pairs.chosen].tolist(), pairs.story[pairs.rejected].tolist(), strict=True))
    assert {(numbers[place], numbers[place + 1]) for place in (0, 2, 4)} <= known


# --- rows


def test_a_story_that_was_cut_off_has_no_end(prepared: Prepared) -> None:
    stories = _round(prepared)
    rows = stories.rows
    assert rows.cut_off is not None
    assert 0 < rows.cut_off.sum() < len(rows.cut_off)
    taken = rows.take(np.arange(len(rows)))
    story_of_row = rows.pieces.story
    ends = (taken.labels == 0).any(axis=1)  # end-of-text; no other token is 0
    assert (ends == ~rows.cut_off[story_of_row]).all()
    targets = (taken.labels >= 0).sum(axis=1)
    assert (targets == stories.target_tokens[story_of_row]).all()
    assert (np.diff(rows.row_lengths) >= 0).all()


@pytest.mark.parametrize("objective", [_weighted(Exponential(target_ess=0.4)), RLOO, DPO_], ids=["rwr", "rloo", "dpo"])
@pytest.mark.parametrize("steps", [1, 5])
def test_every_row_is_learned_once_in_steps_of_like_size(prepared: Prepared, objective: Any, steps: int) -> None:
    people = 0 if objective is DPO_ else 9
    data = objective.round_data(_round(prepared, steps=steps, people=people))
    batching = Batching(micro_batch=2, accumulate=40, steps=steps, seed=0)
    dealt = deal(data, steps, 128, batching, ranks=2, number=3)
    rows = [np.concatenate(parts) for parts in dealt.steps]
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(data.source)))
    assert np.ptp([len(one) for one in rows]) <= 2
    assert all(people == 0 or data.people[one].any() for one in rows), "people's stories are in every step"
    widest = max(128, int(data.source.row_lengths.max()) + 8)
    for part in (part for parts in dealt.steps for part in parts):
        batch = data.source.batch(part, part)
        assert batch.input_ids_BT.numel() <= 2 * widest
    other = deal(data, steps, 128, batching, ranks=2, number=4)
    assert steps == 1 or [one.tolist() for one in rows] != [np.concatenate(parts).tolist() for parts in other.steps]


def test_the_loader_opens_a_round_when_it_is_asked_for_its_first_batch(prepared: Prepared) -> None:
    data, opened = RLOO.round_data(_round(prepared)), list[int]()
    batching = Batching(micro_batch=8, accumulate=3, steps=6, seed=0)

    def open_round(number: int) -> DealtRound:
        opened.append(number)
        return deal(data, 2, 128, batching, 1, number)

    loader = iter(RoundLoader(open_round, 2, batching, 0, 0, 1))
    for done in range(18):
        next(loader)
        assert opened == list(range(done // 6 + 1))
    opened.clear()
    rest = list(RoundLoader(open_round, 2, batching, 9, 0, 1))
    assert (len(rest), opened) == (9, [1, 2])


# --- gradients


def _gradient(model: PreTrainedModel, loss: Any, batches: list[Any]) -> torch.Tensor:
    model.zero_grad()
    for batch in batches:
        shares, _ = loss(hidden_states(model, batch), output_layer(model), batch)
        shares.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("steps", [1, 4], ids=["one step", "with ratios"])
def test_micro_batches_and_ranks_add_up_to_one_batch(prepared: Prepared, tiny_model: PreTrainedModel, steps: int) -> None:
    model = replace_ends(tiny_model)
    stories = _round(prepared, steps=steps, people=5)
    everything = np.arange(len(stories.rows))
    whole = WeightedRows(stories.rows).batch(everything, everything)
    with torch.no_grad():  # so that ratios are near 1, on both sides of the bounds
        _, nll_N = output_layer(model)(
            hidden_states(model, whole)[whole.labels_BT >= 0], whole.labels_BT[whole.labels_BT >= 0],
            torch.zeros(whole.target_tokens),
        )  # fmt: skip
    story_N = stories.rows.pieces.story[torch.nonzero(whole.labels_BT >= 0)[:, 0].numpy()]
    own = PROMPTS * STORIES
    logprobs = -np.bincount(story_N, nll_N.numpy())[:own] + np.random.default_rng(0).normal(0, 0.2, own)
    stories.policy_logprobs[:] = logprobs
    data = RLOO.round_data(stories)
    one = _gradient(model, RLOO.loss, [data.source.batch(everything, everything)])
    for ranks, micro_batch in ((1, 2), (2, 3)):
        batching = Batching(micro_batch=micro_batch, accumulate=40, steps=1, seed=0)
        dealt = deal(data, 1, 128, batching, ranks, 0)
        batches = [dealt.batch(0, part, rank, ranks) for part in range(40) for rank in range(ranks)]
        assert sum(int((batch.labels_BT >= 0).any()) for batch in batches) >= 4
        assert not (batches[-1].labels_BT >= 0).any(), "the last ones are empty"
        many = _gradient(model, RLOO.loss, batches)
        assert float((many - one).abs().max()) <= 1e-5 * float(one.abs().max())
    clipped = [float(RLOO.loss(hidden_states(model, b), output_layer(model), b)[1]["clipped_share"]) for b in batches]
    assert (0 < sum(clipped) < 1) == (steps > 1)


def test_a_constant_added_to_all_scores_changes_nothing(prepared: Prepared, tiny_model: PreTrainedModel) -> None:
    model, stories = replace_ends(tiny_model), _round(prepared)
    moved = _round(prepared, stories.rewards_PK + 50.0)
    everything = np.arange(len(stories.rows))
    for objective in (RLOO, _weighted(Exponential(target_ess=0.4)), _weighted(Top(share=0.25))):
        gradients = [
            _gradient(model, objective.loss, [objective.round_data(one).source.batch(everything, everything)])
            for one in (stories, moved)
        ]
        assert float((gradients[0] - gradients[1]).abs().max()) <= 1e-5 * float(gradients[0].abs().max())
        assert float(gradients[0].abs().max()) > 0


def test_stories_of_one_policy_have_no_ratio(prepared: Prepared) -> None:
    one, several = (RLOO.round_data(_round(prepared, steps=steps)).source for steps in (1, 4))
    assert isinstance(one, AdvantageRows)
    assert isinstance(several, AdvantageRows)
    assert np.isnan(one.drawn).all()
    assert not np.isnan(several.drawn).any()


def test_a_rank_that_ran_out_of_stories_adds_nothing_however_unlikely_they_were(
    prepared: Prepared, tiny_model: PreTrainedModel
) -> None:
    """A row that stands in has no targets; the ratio of its story was exp(700)."""
    model, stories = replace_ends(tiny_model), _round(prepared, steps=4)
    stories.policy_logprobs[:] = -700
    for sign in (-1, 0, 1):
        stories.rewards_PK[:] = sign * np.arange(PROMPTS * STORIES).reshape(PROMPTS, STORIES)
        source = RLOO.round_data(stories).source
        batch = source.batch(np.array([-1]), np.arange(len(source)))
        loss, figures = RLOO.loss(hidden_states(model, batch), output_layer(model), batch)
        assert float(loss.detach()) == 0
        assert {float(figure) for figure in figures.values()} == {0.0}
        gradient = _gradient(model, RLOO.loss, [batch])
        assert float(gradient.abs().max()) == 0


def test_a_step_without_a_pair_adds_nothing(prepared: Prepared, tiny_model: PreTrainedModel) -> None:
    rewards = np.full((PROMPTS, STORIES), 0.5)
    rewards[1, 2] = 1.0
    data = DPO_.round_data(_round(prepared, rewards))
    dealt = deal(data, 3, 128, Batching(micro_batch=2, accumulate=1, steps=3, seed=0), 1, 0)
    batches = [dealt.batch(step, 0, 0, 1) for step in range(3)]
    assert [len(batch.chosen_P) for batch in batches if isinstance(batch, PreferenceBatch)].count(0) == 2
    model = replace_ends(tiny_model)
    for batch in batches:
        loss, figures = DPO_.loss(hidden_states(model, batch), output_layer(model), batch)
        assert all(torch.isfinite(figure) for figure in (loss, *figures.values()))
    with pytest.raises(UserError, match="all stories of this round are worth the same"):
        DPO_.round_data(_round(prepared, np.zeros((PROMPTS, STORIES))))


def test_a_story_may_be_longer_than_the_block(prepared: Prepared) -> None:
    """The sampler goes by the model's positions."""
    story = np.arange(1, 300, dtype=np.int32)
    rows = story_rows([np.array([1, 2], np.int32)] * 2, [story, story[:5]], np.array([True, False]), 128, 0)
    taken = rows.take(np.array([0, 1]))
    assert (taken.labels >= 0).sum(axis=1).tolist() == [6, 299]

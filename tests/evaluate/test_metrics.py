"""A policy's evaluation: likelihoods after other prompts and after none, what it is told against, the verdict, the page."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from rfr.data.prepare import Prepared
from rfr.data.tokenise import Encoder
from rfr.errors import UserError
from rfr.evaluate.metrics import PromptRanking, likelihood_findings, rewards_of, text_findings
from rfr.evaluate.perplexity import nll_by_karma, story_nll
from rfr.evaluate.prompt_ranking import among_other_prompts, own_prompt_first, without_prompts
from rfr.model.embedding import replace_ends
from rfr.records import Story
from rfr.report.evaluation_page import evaluation_page
from rfr.reward.residual import Residual
from rfr.reward.thread import ThreadRank


@pytest.fixture
def policy(tiny_model: PreTrainedModel) -> PreTrainedModel:
    return replace_ends(tiny_model)


def _nll_by_hand(model: PreTrainedModel, prompt: np.ndarray, story: np.ndarray, eos: int) -> float:
    ids = torch.tensor([[*prompt, *story, eos]])
    with torch.no_grad():
        logp = model(ids).logits[0].log_softmax(-1)
    targets = range(len(prompt), ids.shape[1])
    return -sum(float(logp[index - 1, ids[0, index]]) for index in targets)


def test_stories_are_scored_after_their_own_prompt_others_and_none(prepared: Prepared, policy: PreTrainedModel) -> None:
    rows = prepared.validation.rows
    threads = np.unique(prepared.validation.stories.column("thread_id"), return_inverse=True)[1]
    whole = np.argsort(rows.story_tokens)[:3]  # none is cut
    assert rows.story_tokens[whole].max() < 80
    ranked = among_other_prompts(rows, whole, threads, candidates=4, seed=0)
    nll_sums, targets = story_nll(policy, ranked, 8)
    own, _ = story_nll(policy, rows, 8)
    free, _ = story_nll(policy, without_prompts(rows), 8)
    for index, story in enumerate(whole):
        prompt, begins, ends = rows.stories[story]
        text = np.asarray(rows.tokens[begins:ends])
        assert nll_sums[4 * index] == pytest.approx(own[story], rel=1e-5)
        assert own[story] == pytest.approx(_nll_by_hand(policy, rows.tokens[prompt:begins], text, rows.eos), rel=1e-5)
        assert free[story] == pytest.approx(_nll_by_hand(policy, rows.tokens[begins - 1 : begins], text, rows.eos), rel=1e-5)
        assert len(set(nll_sums[4 * index : 4 * index + 4])) == 4, "four prompts"
        assert (targets[4 * index : 4 * index + 4] == len(text) + 1).all()


def test_nll_of_what_a_thread_liked_best_and_least() -> None:
    def thread(name: str, karma: list[int | None]) -> list[Story]:
        return [
            Story(thread_id=name, reply_id=f"{name}{i}", prompt="p", response="r", score=score) for i, score in enumerate(karma)
        ]

    threads = [
        thread("a", [1, 5, 2, 9]),
        thread("b", [7, 7]),
        thread("c", [None, 3]),
        thread("d", [4, 0]),
        thread("e", [7, 7, 9]),
    ]
    nll = np.array([10.0, 1, 1, 30, 99, 99, 99, 99, 40, 6, 99, 99, 99])
    tokens = np.array([5.0, 1, 1, 10, 1, 1, 1, 1, 10, 4, 1, 1, 1])
    by_karma = nll_by_karma(nll, tokens, threads)
    assert by_karma["top"] == pytest.approx((30 + 40) / 20)
    assert by_karma["bottom"] == pytest.approx((10 + 6) / 9)
    assert nll_by_karma(nll[4:6], tokens[4:6], threads[1:2]) == {}


def test_a_story_that_fills_the_block_is_scored_by_its_beginning(prepared: Prepared, policy: PreTrainedModel) -> None:
    rows = prepared.validation.rows
    threads = np.unique(prepared.validation.stories.column("thread_id"), return_inverse=True)[1]
    longest = int(rows.story_tokens.argmax())
    assert rows.story_tokens[longest] > rows.block
    ranked = among_other_prompts(rows, np.array([longest]), threads, candidates=5, seed=0)
    assert ranked.row_lengths.max() <= rows.block
    assert len(set(ranked.story_tokens)) == 1
    assert np.isfinite(story_nll(policy, ranked, 4)[0]).all()
    with pytest.raises(UserError, match=r"lower ranking\.candidates"):
        among_other_prompts(rows, np.array([longest]), threads, candidates=99, seed=0)
    with pytest.raises(UserError, match="2 or more"):
        PromptRanking(candidates=1)


def test_the_own_prompt_has_to_be_the_likeliest() -> None:
    nll_sums = np.array([1.0, 2, 3, 5.0, 4, 6, 2.0, 2, 9])  # right, wrong, a tie
    ranking = own_prompt_first(nll_sums, np.array([0, 1, 2]), 3)
    assert ranking["accuracy"] == pytest.approx(1 / 3)
    assert ranking["chance"] == pytest.approx(1 / 3)
    assert ranking["stories"] == 3


def test_an_untrained_policy_is_told_from_nothing(prepared: Prepared, policy: PreTrainedModel) -> None:
    rewards, refused = rewards_of({"rank": ThreadRank(), "residual": Residual(folds=99)}, prepared)
    assert refused.keys() == {"residual"}
    assert rewards.keys() == {"reward rank"}
    findings, likelihoods = likelihood_findings(policy, prepared.validation, 8, PromptRanking(stories=30), rewards)
    assert len(likelihoods) == len(prepared.validation.stories)
    assert set(findings["baselines"]) < {row["score"] for row in findings["pair_accuracy"]}
    rank = [row["accuracy"] for row in findings["pair_accuracy"] if row["score"] == "reward rank" and row["pairs"]]
    assert set(rank) == {1.0}
    assert abs(findings["prompt_ranking"]["accuracy"] - 0.1) < 0.2
    assert findings["nll_per_token"] == pytest.approx(np.log(policy.config.vocab_size), rel=0.05)
    assert "prompt_ranking" not in likelihood_findings(policy, prepared.validation, 8, PromptRanking(stories=0), {})[0]


def test_a_copied_story_is_found_out(prepared: Prepared) -> None:
    encoder = Encoder(prepared.tokenizer)
    stories = [pair.response for pair in prepared.train.stories[:6]]
    findings = text_findings(stories, prepared, lambda texts: [tokens.ids for tokens in encoder(texts)])
    assert findings["copying"]["share_of_story_median"] == 1
    assert findings["copying_of_people"]["share_of_story_median"] < 0.8
    assert findings["copying"]["longest_tokens"] == max(len(tokens.ids) for tokens in encoder(stories))


def test_the_page_holds_it_all(prepared: Prepared, policy: PreTrainedModel) -> None:
    findings, _ = likelihood_findings(policy, prepared.validation, 8, PromptRanking(stories=10), {})
    page = evaluation_page({"model": "m", **findings}, [[{"prompt": "p", "response": "r"}]], 8, {"corpus": "c"})
    plotted = [
        row for row in findings["pair_accuracy"] if row["pairs"] and (row["score"], row["accuracy"]) != ("earlier alone", 0)
    ]
    assert page.count("<svg") == len(plotted) > 20
    assert page.count("by construction") == 2, "the earlier one never has the karma where it has to come later"
    for words in ("length-matched", "within an hour", "not earlier (SHP)", "own prompt is the likeliest", "class=verdict"):
        assert words in page
    assert "http" not in page

"""Learning from pairs: the losses by hand, and runs that leave a policy and a reward model."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from rfr.data.batches import PairRows
from rfr.data.preference_pairs import Pairing
from rfr.data.prepare import Prepared
from rfr.data.tokenise import PROMPT_END
from rfr.errors import UserError
from rfr.evaluate.reward_model_judge import story_scores
from rfr.model.attention import hidden_states
from rfr.model.embedding import output_layer, replace_ends
from rfr.model.load import load_policy
from rfr.model.reward_model import load_reward_model, reward_model
from rfr.objective.losses import DPO, BradleyTerry, Loss
from rfr.records import IGNORE, PreferenceBatch
from rfr.runs.folder import run_folder
from rfr.train.build import build
from rfr.train.recipe import Recipe
from rfr.train.reference import ReferenceLogProbs
from rfr.train.run import train
from tests.helpers.runs import SMALL, column, command, largest_difference, last_json, small_config, train_small


@pytest.fixture(scope="module")
def rows(prepared: Prepared) -> PairRows:
    split = prepared.train
    rewards = np.array([float(pair.score or 0) for pair in split.stories])
    return PairRows(split.rows, Pairing(group=3)(rewards, split.stories.column("thread_id"), split.target_tokens))


@pytest.fixture
def policy(tiny_model: PreTrainedModel) -> PreTrainedModel:
    return replace_ends(tiny_model).train()


def _logp(model: PreTrainedModel, batch: PreferenceBatch) -> torch.Tensor:
    """Of each document, with all logits at once; differentiable."""
    logits = output_layer(model)(hidden_states(model, batch))
    nll_BT = cross_entropy(logits.transpose(1, 2), batch.labels_BT, ignore_index=IGNORE, reduction="none")
    return torch.stack([-(nll_BT * (batch.documents_BT == d)).sum() for d in range(1, len(batch.ends_S) + 1)])


def _gradients(model: PreTrainedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    assert largest > 1e-3
    for name, gradient in one.items():  # some are 0 but for rounding: what is added to all scores changes no difference
        torch.testing.assert_close(gradient, other[name], rtol=1e-3, atol=1e-4 * largest)


def test_dpo_is_the_loss_of_its_paper(policy: PreTrainedModel, rows: PairRows) -> None:
    indices = np.array([1, 4, 7])
    batch = rows.batch(indices, indices)
    torch.manual_seed(0)
    batch = replace(batch, reference_S=_logp(policy, batch).detach() + torch.randn(len(batch.ends_S)) * 3)
    loss, shares = DPO(beta=0.3)(hidden_states(policy, batch), output_layer(policy), batch)
    ratio = _logp(policy, batch) - batch.reference_S
    margin = 0.3 * (ratio[batch.chosen_P] - ratio[batch.rejected_P])
    expected = -logsigmoid(margin).mean()
    assert float(loss) == pytest.approx(float(expected), abs=1e-4)  # sums of hundreds in fp32
    right = float((margin > 0).float().mean())
    assert float(shares["pair_accuracy"]) == pytest.approx(right)
    assert 0 < right < 1
    assert float(shares["margin"]) == pytest.approx(float(margin.mean()), rel=1e-3)
    _same(_gradients(policy, loss), _gradients(policy, -logsigmoid(0.3 * _margin(policy, batch)).mean()))


def _margin(model: PreTrainedModel, batch: PreferenceBatch) -> torch.Tensor:
    ratio = _logp(model, batch) - batch.reference_S
    return ratio[batch.chosen_P] - ratio[batch.rejected_P]


def test_a_reward_model_learns_the_loss_of_bradley_and_terry(policy: PreTrainedModel, rows: PairRows) -> None:
    model = reward_model(policy, block=128)
    batch = rows.batch(np.array([2, 5]), np.array([2, 5]))
    loss, shares = BradleyTerry()(hidden_states(model, batch), output_layer(model), batch)
    scores = output_layer(model)(hidden_states(model, batch)).flatten()[batch.ends_S]
    margin = scores[batch.chosen_P] - scores[batch.rejected_P]
    assert margin.abs().min() > 0
    assert float(loss) == pytest.approx(float(-logsigmoid(margin).mean()), rel=1e-5)
    assert float(shares["pair_accuracy"]) == pytest.approx(float((margin > 0).float().mean()))
    expected = output_layer(model)(hidden_states(model, batch)).flatten()[batch.ends_S]
    _same(_gradients(model, loss),
          _gradients(model, -logsigmoid(expected[batch.chosen_P] - expected[batch.rejected_P]).mean()))  # fmt: skip


@pytest.mark.parametrize("objective", [DPO(beta=0.3), BradleyTerry()])
def test_pairs_can_be_learnt(policy: PreTrainedModel, rows: PairRows, tmp_path: Path, objective: Loss) -> None:
    model = policy if objective.is_policy else reward_model(policy, block=128)
    informed = rows.with_reference(ReferenceLogProbs(policy, "fp32", tmp_path)(rows.rows)) if objective.is_policy else rows
    batch = informed.batch(np.array([2, 5]), np.array([2, 5]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss, shares = objective(hidden_states(model, batch), output_layer(model), batch)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.3
    assert float(shares["pair_accuracy"]) == 1


@pytest.mark.parametrize("objective", [DPO(beta=0.3), BradleyTerry()])
def test_shares_of_a_step_add_up(policy: PreTrainedModel, rows: PairRows, objective: Loss) -> None:
    model = policy if objective.is_policy else reward_model(policy, block=128)
    together = np.array([0, 3, 6, 9])
    whole = rows.batch(together, together)
    loss, shares = objective(hidden_states(model, whole), output_layer(model), whole)
    parts = [rows.batch(part, together) for part in (together[:1], together[1:3], np.array([together[3], -1]))]
    outcomes = [objective(hidden_states(model, part), output_layer(model), part) for part in parts]
    assert float(sum(part for part, _ in outcomes)) == pytest.approx(float(loss), rel=1e-5)
    for name, share in shares.items():
        assert float(sum(of_part[name] for _, of_part in outcomes)) == pytest.approx(float(share), rel=1e-4, abs=1e-5), name
    _same(_gradients(model, loss), _gradients(model, sum((part for part, _ in outcomes), torch.zeros(()))))


def test_before_the_first_step_a_policy_is_its_own_reference(policy: PreTrainedModel, rows: PairRows, tmp_path: Path) -> None:
    reference = ReferenceLogProbs(policy, "fp32", tmp_path)(rows.rows)
    informed = rows.with_reference(reference)
    batch = informed.batch(np.arange(6), np.arange(6))
    torch.testing.assert_close(batch.reference_S, _logp(policy, batch), rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        loss, shares = DPO()(hidden_states(policy, batch), output_layer(policy), batch)
    assert float(loss) == pytest.approx(math.log(2), abs=1e-4)
    assert abs(float(shares["margin"])) < 1e-4
    assert len(list(tmp_path.glob("*/log_probabilities.npy"))) == 1
    assert policy.training, "it goes on as it was"
    assert (ReferenceLogProbs(policy, "fp32", tmp_path)(rows.rows) == reference).all()
    with torch.no_grad():
        next(policy.parameters()).mul_(1.1)
    assert not np.allclose(ReferenceLogProbs(policy, "fp32", tmp_path)(rows.rows), reference), "another policy, another cache"


def test_wrong_values_are_refused(folders: list[str]) -> None:
    with pytest.raises(UserError, match="beta must be above 0"):
        DPO(beta=0)
    cfg = small_config(folders, "apart", "objective=dpo", "objective.pairing.margin=99")
    with pytest.raises(UserError, match="no two replies to one post"):
        build(Recipe.of(cfg), run_folder(cfg))


@pytest.fixture(scope="module")
def judge(folders: list[str]) -> Path:
    return train_small(folders, "judge", "objective=reward_model", "reward=log_karma", "trainer.max_steps=12",
                       "trainer.micro_batch=4", "optimizer.lr=3e-3")[0]  # fmt: skip


def test_a_reward_model_is_trained_and_exported(judge: Path, prepared: Prepared) -> None:
    result = json.loads((judge / "result.json").read_text())
    assert result["val/pair_loss"] < 1
    assert 0 <= result["val/pair_accuracy"] <= 1
    assert "val/nll_per_token" not in result
    losses = column(judge, "train/pair_loss")
    assert losses == column(judge, "train/loss")
    assert abs(losses[0] - math.log(2)) < 0.2
    assert not (judge / "samples.jsonl").exists(), "it writes no stories"
    model, tokenizer = load_reward_model(str(judge / "model"))
    theirs = AutoModelForSequenceClassification.from_pretrained(judge / "model").eval()
    pairs = sorted(prepared.train.stories[:40], key=lambda pair: len(pair.response))[:3]
    texts = [pair.prompt + PROMPT_END + pair.response for pair in pairs]
    tokenizer.pad_token = tokenizer.eos_token
    with torch.no_grad():
        padded = theirs(**tokenizer(texts, return_tensors="pt", padding=True)).logits[:, 0]
        alone = [float(theirs(**tokenizer(text, return_tensors="pt")).logits[0, 0]) for text in texts]
    assert padded.tolist() == pytest.approx(alone, abs=1e-5)
    mine = story_scores(model, tokenizer, [(pair.prompt, pair.response) for pair in pairs])
    assert mine.tolist() == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == 3


def test_a_reward_model_is_no_policy_and_a_policy_no_reward_model(judge: Path, folders: list[str]) -> None:
    with pytest.raises(UserError, match="it scores stories and can't write them"):
        load_policy(str(judge / "model"))
    run_dir, _ = train_small(folders, "writer", "trainer.max_steps=3")
    with pytest.raises(UserError, match="no reward model at"):
        load_reward_model(str(run_dir / "model"))
    assert AutoTokenizer.from_pretrained(judge / "model").eos_token_id is not None


@pytest.mark.slow
def test_dpo_goes_on_from_a_policy(folders: list[str]) -> None:
    start, _ = train_small(folders, "start", "trainer.max_steps=3")
    weights = [f"model.weights={start}/model", f"model.tokenizer={start}/model"]
    dpo = ["objective=dpo", "reward=log_karma", "optimizer.lr=1e-3", "trainer.max_steps=10", *weights]
    run_dir, result = train_small(folders, "dpo", *dpo, "trainer.micro_batch=4")
    losses = column(run_dir, "train/pair_loss")
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3), "the policy is its own reference"
    assert min(losses[-3:]) < losses[0] - 0.01
    assert {"val/pair_loss", "val/pair_accuracy", "val/margin", "val/pair_nll_per_token"} <= set(result)
    assert (run_dir / "samples.jsonl").exists()
    spread, _ = train_small(folders, "spread", *dpo, "trainer.micro_batch=2", "trainer.accumulate=2")
    assert column(spread, "train/pair_loss") == pytest.approx(losses, rel=1e-3)
    assert largest_difference(run_dir, spread) < 1e-3


@pytest.mark.parametrize("objective", ["dpo", "reward_model"])
def test_a_resumed_run_is_the_same_to_the_bit(folders: list[str], tmp_path: Path, objective: str) -> None:
    name, settings = f"whole-{objective}", [f"objective={objective}", "reward=log_karma", "trainer.checkpoint_every=2"]
    whole, result = train_small(folders, name, *settings)
    cut = tmp_path / "runs" / name
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step-00000006")
    (cut / "result.json").unlink()
    assert (cut / "checkpoints" / "step-00000004").exists()
    cfg = small_config([folders[0], f"runs_dir={tmp_path}/runs"], name, *settings)
    again = train(Recipe.of(cfg), cut)
    assert largest_difference(whole, cut) == 0
    assert again["val/pair_loss"] == result["val/pair_loss"]
    for figure in ("train/pair_loss", "train/pair_accuracy", "train/margin", "grad_norm"):
        assert column(cut, figure) == column(whole, figure)
        assert len(column(cut, figure)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "reward_model"])
@pytest.mark.parametrize(
    "layout",
    [
        ["strategy=deepspeed_2", "trainer.ranks=2", "trainer.micro_batch=1", "trainer.accumulate=2"],
        ["strategy=deepspeed_3", "trainer.micro_batch=2", "trainer.accumulate=2"],
        ["strategy=ddp", "trainer.ranks=2", "trainer.micro_batch=2"],
    ],
    ids=lambda layout: " ".join(layout) if isinstance(layout, list) else layout,
)
def test_strategies_and_layouts_agree(folders: list[str], tmp_path: Path, objective: str, layout: list[str]) -> None:
    settings = [f"objective={objective}", "reward=log_karma"]
    reference, result = train_small(folders, f"reference-{tmp_path.name}", *settings)
    other = last_json(command(["train.py", *SMALL, *folders, f"name=layout-{tmp_path.name}", *settings, *layout]))
    run_dir = Path(other["run_dir"])
    assert column(run_dir, "grad_norm")[0] == pytest.approx(column(reference, "grad_norm")[0], rel=1e-4)
    assert column(run_dir, "train/pair_loss") == pytest.approx(column(reference, "train/pair_loss"), rel=1e-3)
    assert other["val/pair_loss"] == pytest.approx(result["val/pair_loss"], rel=1e-3)
    assert largest_difference(reference, run_dir) < 2e-3

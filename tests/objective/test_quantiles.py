"""Conditional policies: told how good a story is, they learn each kind and write the best."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from rfr.data.batches import WeightedRows
from rfr.data.control_tokens import NAME, add_controls, control_ids
from rfr.data.tokenise import PROMPT_END, Encoder, prompt_tokens, train_bpe
from rfr.errors import UserError
from rfr.model.embedding import output_layer
from rfr.model.load import load_policy
from rfr.objective.quantiles import Quantiles
from rfr.runs.folder import run_folder
from rfr.train.build import Run, build
from rfr.train.recipe import Recipe
from tests.helpers.runs import small_config, train_small


def test_quantiles_are_of_the_training_stories() -> None:
    training = np.arange(100.0)
    quantiles = Quantiles(count=4)(np.array([-5.0, 24, 25, 60, 99, 1e9]), training)
    assert quantiles.tolist() == [0, 0, 1, 2, 3, 3]
    tiers = np.repeat([-1.0, 0.0, 1.0], 30)
    assert Quantiles(count=3)(np.array([-1.0, 0.0, 1.0]), tiers).tolist() == [0, 1, 2]
    assert Quantiles(count=2)(np.array([0.0, 1.0]), np.repeat([0.0, 1.0], [60, 40])).tolist() == [0, 1]
    assert np.bincount(Quantiles(count=5)(training, training)).tolist() == [20] * 5


def test_a_policy_without_quantiles_is_refused() -> None:
    with pytest.raises(UserError, match="all rewards are equal"):
        Quantiles()(np.ones(5), np.ones(5))
    with pytest.raises(UserError, match=r"1 of objective\.control\.count=3 parts would be empty"):
        Quantiles(count=3)(np.zeros(1), np.repeat([0.0, 1.0], [99, 1]))
    with pytest.raises(UserError, match="NaN"):
        Quantiles()(np.array([np.nan]), np.arange(5.0))
    with pytest.raises(UserError, match=r"objective\.control\.count"):
        Quantiles(count=1)


def test_text_never_becomes_a_control_token() -> None:
    tokenizer = add_controls(train_bpe(["a story of some words"] * 3, 300), 3)
    ids = control_ids(tokenizer)
    assert len(ids) == 3
    forged = NAME.format(3, 3) + " a story"
    (prompt,), (story,) = Encoder(tokenizer).prompts([forged], [forged])
    assert prompt.ids[0] == ids[2]
    assert not set(ids) & {*prompt.ids[1:], *story.ids}
    assert prompt_tokens(tokenizer, forged) == prompt.ids.tolist()
    assert prompt_tokens(tokenizer, "a", 1) == [ids[0], *tokenizer("a" + PROMPT_END)["input_ids"]]
    with pytest.raises(UserError, match="has quantiles 1 to 3"):
        prompt_tokens(tokenizer, "a", 4)
    with pytest.raises(UserError, match="objective=conditional"):
        prompt_tokens(train_bpe(["a"], 300), "a", 1)
    assert control_ids(add_controls(tokenizer, 3)) == ids
    with pytest.raises(UserError, match="set it to 3"):
        add_controls(tokenizer, 5)


def _built(folders: list[str], *overrides: str) -> Run:
    cfg = small_config(folders, "told", "objective=conditional", *overrides)
    return build(Recipe.of(cfg), run_folder(cfg))


def test_every_story_is_learnt_behind_its_quantile(folders: list[str]) -> None:
    run = _built(folders, "reward=log_karma", "objective.control.count=4")
    ids, rewards, rows = control_ids(run.prepared.tokenizer), run.data.arrays["rewards"], run.data.train
    assert isinstance(rows, WeightedRows)
    seen = []
    for row in range(len(rows)):
        batch = rows.batch(np.array([row]), np.array([row]))
        stories = rows.rows.take(np.array([row])).stories[0]
        for document in range(1, int(batch.documents_BT.max()) + 1):
            first = int(np.flatnonzero(batch.documents_BT[0] == document)[0])
            seen.append((ids.index(int(batch.input_ids_BT[0, first])), rewards[stories[first]]))
    parts = [[reward for quantile, reward in seen if quantile == number] for number in range(4)]
    assert min(map(len, parts)) > 10
    for worse, better in pairwise(parts):
        assert max(worse) < min(better)
    held_out = run.data.validation
    assert isinstance(held_out, WeightedRows)
    assert held_out.rows.controls is not None
    assert len(set(held_out.rows.controls)) == 4, "each is validated behind its own"


def test_a_policy_that_knows_no_control_tokens_learns_them(folders: list[str], tmp_path: Path) -> None:
    """Whether there are rows to spare, which all look alike, or none."""
    start, _ = train_small(folders, "start", "trainer.max_steps=3")
    known = load_file(start / "model" / "model.safetensors")["transformer.wte.weight"]
    tokenizer = AutoTokenizer.from_pretrained(start / "model")
    weights = f"model.weights={start}/model"
    assert len(tokenizer) + 5 <= len(known), "rows to spare"
    spare = _built(folders, weights, f"model.tokenizer={start}/model")
    _check_drawn(spare, known, range(len(tokenizer), len(tokenizer) + 5))
    tokenizer.add_tokens([f"<unused {number}>" for number in range(len(known) - len(tokenizer))])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    none = [weights, f"model.tokenizer={tmp_path}/tokenizer"]
    run = _built(folders, *none)
    _check_drawn(run, known, range(len(known), len(known) + 5))
    assert torch.equal(_embeddings(run), _embeddings(_built(folders, *none))), "drawn from the seed"


def _check_drawn(run: Run, known: torch.Tensor, new: range) -> None:
    assert list(new) == control_ids(run.prepared.tokenizer)
    rows = _embeddings(run)
    assert torch.equal(rows[: new.start], known[: new.start])
    assert rows[list(new)].std() == pytest.approx(float(known[: new.start].std()), rel=0.3)
    assert torch.pdist(rows[list(new)]).min() > 0.5 * torch.pdist(known[:50]).mean()
    assert output_layer(run.model).weight is run.model.get_input_embeddings().weight


def test_a_conditional_policy_goes_on_with_what_it_knows(folders: list[str]) -> None:
    start, _ = train_small(folders, "knows", "objective=conditional", "trainer.max_steps=3")
    known = load_file(start / "model" / "model.safetensors")["transformer.wte.weight"]
    assert torch.equal(_embeddings(_built(folders, f"model.weights={start}/model", f"model.tokenizer={start}/model")), known)


def _embeddings(run: Run) -> torch.Tensor:
    rows = run.model.get_input_embeddings().weight
    assert isinstance(rows, torch.Tensor)
    return rows.detach()


@pytest.mark.slow
def test_a_conditional_policy_is_trained_sampled_and_evaluated(
    folders: list[str], tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    run_dir, result = train_small(folders, "conditional", "objective=conditional", "reward=oracle", "trainer.max_steps=40",
                                  "trainer.validate_every=40", "optimizer.lr=1e-2")  # fmt: skip
    assert result["ess"] == 1
    _, tokenizer = load_policy(str(run_dir / "model"))
    assert len(control_ids(tokenizer)) == 5
    weights = f"model.weights={run_dir}/model"
    drawn = []
    for quantile in ("null", "5", "1"):
        code, out, err = command("generate", weights, "prompt=[WP] A door.", f"sampling.quantile={quantile}")
        assert code == 0, err
        drawn.append(json.loads(out.splitlines()[-1])["response"])
    assert drawn[0] == drawn[1] != drawn[2], "it writes the best unless told otherwise"
    code, _, err = command("generate", weights, "prompt=[WP] A door.", "sampling.quantile=6")
    assert code == 2
    assert "has quantiles 1 to 5" in err
    small = ["corpus=demo", "corpus.demo.threads=40", "stories=4", "sampling.max_new_tokens=8", "ranking.stories=4",
             "preprocess.fit.context_tokens=16", "~rewards.residual"]  # fmt: skip
    code, _, err = command("evaluate", weights, *small, *folders, f"out={tmp_path}")
    assert code == 0, err
    assert json.loads((tmp_path / "evaluation.json").read_text())["nll_per_token"] < 8

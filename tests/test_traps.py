"""The traps that others fell into, each with the tests that fail when it is put back."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel

from rfr import config
from rfr.data.batches import WeightedRows
from rfr.data.prepare import Prepared
from rfr.model.attention import NAME, hidden_states
from rfr.model.embedding import replace_ends
from rfr.objective.losses import WeightedNLL
from rfr.records import IGNORE, Batch
from rfr.train.policy import random_config
from rfr.train.recipe import Recipe
from tests.conftest import ROOT

TRAPS = {
    "ZeRO-3 initialises a model from its empty, partitioned parameters": "test_layouts_are_exact",
    "dropout in attention halves a CPU's speed": "test_fine_tuning_has_no_dropout",
    "full logits are the largest tensor of all": "test_in_chunks_the_loss_and_its_gradient_are_those_of_all_logits",
    "DeepSpeed's activation checkpointing does nothing by itself": "test_checkpointed_layers_are_run_again",
    "a loaded model comes in evaluation mode, without checkpointing": "test_a_loaded_model_is_trained_in_training_mode",
    "schedules advance on steps that fp16 skips": "test_a_step_that_fp16_skips_does_not_spend_the_schedule",
    "and under DeepSpeed": "test_a_step_that_deepspeed_skips_does_not_spend_the_schedule",
    "schedules are stepped per batch, or end at half the peak": (
        "test_every_schedule_is_kept_under_accumulation_and_over_a_resume"
    ),
    "a cosine that never comes down": "test_golden_curves",
    "the loss is divided by the accumulation steps twice": "test_layouts_are_exact",
    "means of micro-batches are averaged though their token counts differ": "test_accumulation_changes_nothing",
    "a resumed run sees its data anew": "test_twenty_kills_leave_no_trace",
    "optimizer and schedule are not restored": "test_a_stopped_run_resumes_bit_for_bit",
    "ZeRO's number of ranks is fixed": "test_ranks_may_change_on_resume",
    "position ids get lost on the way": "test_a_packed_document_equals_the_document_alone",
    "positions alone isolate nothing": "test_perturbing_one_document_changes_no_other",
    "packing changes the summed loss": "test_packing_leaves_every_tokens_loss",
    "what is too long is cut off in silence": "test_any_text_is_learnt_whole",
    "rows without targets give NaN": "test_rows_without_targets_cost_nothing",
    "end-of-text is masked like padding, or lost on a cut": "test_every_story_learns_to_end",
    "GPT-2's mask overflows in fp16": "test_in_fp16_no_mask_overflows",
    "log-probabilities in fp16": "test_fp16_logits_are_judged_in_fp32",
    "ranks disagree on the run's folder": "test_no_folder_depends_on_the_time",
    "jobs of a sweep share a process, and W&B takes them for one run": "test_the_issues_sweep_gives_four_runs_in_one_group",
    "weights of examples are dropped on the way": "test_cloning_is_reward_weighting_with_constant_weights_to_the_bit",
}


def test_every_trap_has_its_test() -> None:
    trees = [ast.parse(path.read_text()) for path in Path(__file__).parent.rglob("test_*.py")]
    known = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert len(TRAPS) > 20
    assert set(TRAPS.values()) <= known


@pytest.mark.parametrize("name", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_fine_tuning_has_no_dropout(name: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = config.resolve(compose("train", [f"model={name}"]))
    made = random_config(Recipe.of(cfg), 50257)
    assert (made.attn_pdrop, made.embd_pdrop, made.resid_pdrop) == (0, 0, 0)
    assert GPT2Config().attn_pdrop > 0, "which Hugging Face's is not by default"
    assert cfg.model.activation_checkpointing == (name != "gpt2"), "on from gpt2-medium up"


def test_checkpointed_layers_are_run_again(tiny_model: PreTrainedModel, prepared: Prepared) -> None:
    runs = {}
    for checkpointing in (False, True):
        if checkpointing:
            tiny_model.activation_checkpointing_enable({"use_reentrant": False})
        tiny_model.train()
        calls: list[int] = []
        hook = tiny_model.get_submodule("transformer.h.0.mlp").register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        hidden_states(tiny_model, _batch(prepared)).sum().backward()
        hook.remove()
        runs[checkpointing] = len(calls)
    assert runs == {False: 1, True: 2}


def _batch(prepared: Prepared, rows: int = 2) -> Batch:
    """The rows with the most documents."""
    split = prepared.train
    documents = split.rows.take(np.arange(len(split.rows))).documents.max(axis=1)
    chosen = np.argsort(-documents)[:rows]
    return WeightedRows(split.rows).batch(chosen, chosen)


@torch.no_grad()
def test_packing_leaves_every_tokens_loss(tiny_model: PreTrainedModel, prepared: Prepared) -> None:
    """All documents of some rows, at once and one by one: the sums agree, and not by chance."""
    replace_ends(tiny_model)
    batch, objective, alone = _batch(prepared, 8), WeightedNLL(), 0.0
    packed = objective(hidden_states(tiny_model, batch), tiny_model.get_output_embeddings(), batch)[1]["nll_per_token"]
    documents = 0
    for row in range(8):
        for document in torch.unique(batch.documents_BT[row]):
            here = batch.documents_BT[row] == document
            if document == 0 or not (batch.labels_BT[row][here] != IGNORE).any():
                continue
            documents += 1
            tensors = {name: value[row][here][None] for name, value in vars(batch).items() if name[-3:] == "_BT"}
            one = Batch(target_tokens=batch.target_tokens, **tensors)
            alone += float(objective(hidden_states(tiny_model, one), tiny_model.get_output_embeddings(), one)[1]["nll_per_token"])
    assert documents > 8
    assert float(packed) == pytest.approx(alone, rel=1e-5)


def test_every_story_learns_to_end(prepared: Prepared) -> None:
    """Of all pieces of a story the last one has end-of-text as its last target, and only that one."""
    split = prepared.train
    ends = np.zeros(len(split.stories), int)
    for start in range(0, len(split.rows), 64):
        rows = split.rows.take(np.arange(start, min(start + 64, len(split.rows))))
        last = rows.labels == split.rows.eos
        np.add.at(ends, rows.stories[last], 1)
    assert len(split.rows.pieces.story) > len(split.stories), "some stories are cut"
    assert (ends == 1).all()


@torch.no_grad()
def test_in_fp16_no_mask_overflows(prepared: Prepared) -> None:
    """Large scores, much padding: a mask of -1e9, as GPT-2 once had, would be minus infinity in fp16, and its rows NaN."""
    shape = GPT2Config(vocab_size=len(prepared.tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=128, initializer_range=1.0)
    model = AutoModelForCausalLM.from_config(shape, attn_implementation=NAME, dtype=torch.float16).eval()
    batch = _batch(prepared, 4)
    batch.documents_BT[:, 40:] = 0
    assert hidden_states(model, batch).isfinite().all()


def test_no_folder_depends_on_the_time() -> None:
    files = list((ROOT / "conf").rglob("*.yaml")) + list((ROOT / "sweep").rglob("*.yaml"))
    assert len(files) > 40
    assert not [path.name for path in files if "${now" in path.read_text()]

"""`plan=`: parts as they are known, advice that holds, and memory as it is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import GPT2Config, GPT2LMHeadModel

from rfr import config
from rfr.commands.plan import GPUS, capacity, fit, phases_of, setup_of, suggest_overrides, totals
from rfr.commands.rollout_plan import AgentSetup, agent_phases, agent_setup
from rfr.evaluate.policy_divergence import CHUNK_ROWS, DISTRIBUTIONS, _of_tokens
from rfr.model.attention import hidden_states
from rfr.model.embedding import replace_ends
from rfr.records import Batch
from rfr.strategy.activations import ForwardPass, activation_bytes
from rfr.strategy.inference_activations import LiveBytes, inference_bytes
from rfr.strategy.memory import MemorySetup, memory_items
from rfr.strategy.precision import native_precisions
from rfr.train.recipe import Recipe
from rfr.train.settings import Gpu
from rfr.utils.malloc import GIB
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, command, last_json

SMALL_GPT2 = GPT2Config(
    vocab_size=512,
    n_embd=64,
    n_layer=3,
    n_head=2,
    n_positions=128,
    activation_function="gelu_pytorch_tanh",
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)
COUNT = 512 * 64 + 128 * 64 + 3 * (12 * 64 * 64 + 13 * 64) + 2 * 64
SETUP = MemorySetup(config=SMALL_GPT2, precision="fp32", rows=2, block=128, checkpointing=False)


def _bytes(setup: MemorySetup) -> dict[str, tuple[float, float, float]]:
    """Per parameter: on the device, in main memory, on the disk."""
    return {part.name: (part.device / COUNT, part.host / COUNT, part.disk / COUNT) for part in memory_items(setup)}


@pytest.mark.parametrize(
    ("changes", "parameters", "gradients", "states"),
    [
        ({}, (4, 0, 0), (4, 0, 0), (8, 0, 0)),
        ({"precision": "bf16"}, (4, 0, 0), (4, 0, 0), (8, 0, 0)),
        ({"precision": "bf16_pure"}, (2, 0, 0), (2, 0, 0), (4, 0, 0)),
        ({"precision": "bf16_pure", "masters": True}, (2, 0, 0), (4, 0, 0), (10, 0, 0)),
        ({"precision": "fp16", "stage": 1, "ranks": 4}, (2, 0, 0), (2, 0, 0), (3, 0, 0)),
        ({"precision": "fp16", "stage": 2, "ranks": 4}, (2, 0, 0), (0.5, 0, 0), (3, 0, 0)),
        ({"precision": "fp16", "stage": 3, "ranks": 4}, (0.5, 0, 0), (0.5, 0, 0), (3, 0, 0)),
        ({"precision": "fp16", "stage": 2, "optimizer_on": "cpu"}, (2, 0, 0), (0, 6, 0), (0, 12, 0)),
        ({"precision": "bf16", "stage": 3, "optimizer_on": "nvme"}, (2, 0, 0), (0, 4, 0), (0, 0, 12)),
        ({"precision": "bf16", "stage": 3, "optimizer_on": "cpu", "parameters_on": "cpu"}, (0, 2, 0), (0, 6, 0), (0, 12, 0)),
    ],
)
def test_model_states_are_those_of_the_zero_paper(
    changes: dict, parameters: tuple[float, ...], gradients: tuple[float, ...], states: tuple[float, ...]
) -> None:
    sizes = _bytes(replace(SETUP, **changes))
    assert sizes["parameters"] == pytest.approx(parameters)
    assert sizes["gradients"] == pytest.approx(gradients)
    assert sizes["optimizer states"] == pytest.approx(states)


def test_deepspeed_turns_gradients_to_fp32_when_the_passes_are_over() -> None:
    """Flat, and in fp32: six bytes per parameter, of which the passes' own room is there already."""
    zero = replace(SETUP, precision="bf16", stage=2, rows=1, block=16)
    long = replace(zero, rows=64, block=128)

    def extra(setup: MemorySetup) -> float:
        return next(part.device for part in memory_items(setup) if part.name == "gradients for the optimizer")

    passes = sum(part.device for part in memory_items(zero)[-5:-1])
    assert passes + extra(zero) == pytest.approx(6 * COUNT)
    assert extra(zero) > 0
    assert extra(long) == extra(replace(zero, stage=0)) == extra(replace(zero, optimizer_on="cpu")) == 0


def test_states_on_a_disk_are_swapped_through_memory() -> None:
    """DeepSpeed's five buffers, each for the largest group; the embedding is one by itself where it is larger."""
    nvme = replace(SETUP, precision="bf16", stage=3, optimizer_on="nvme")
    for group, largest in ((1000, 512 * 64), (10**6, 10**6)):
        (buffers,) = [part for part in memory_items(replace(nvme, sub_group=group)) if "swap" in part.name]
        assert (buffers.device, buffers.host, buffers.disk) == (0, 5 * 4 * largest, 0)
    assert not [part for part in memory_items(replace(nvme, optimizer_on="cpu", sub_group=10**6)) if "swap" in part.name]


def _forward(*, rows: int, block: int, checkpointing: bool) -> ForwardPass:
    return ForwardPass(rows=rows, block=block, precision="bf16", autocast=False, checkpointing=checkpointing)


def test_activations_grow_with_rows_and_layers_and_shrink_with_checkpointing() -> None:
    kept = {
        (rows, checkpointing): activation_bytes(SMALL_GPT2, _forward(rows=rows, block=96, checkpointing=checkpointing)).layer
        for rows in (1, 2)
        for checkpointing in (False, True)
    }
    assert kept[2, False] == pytest.approx(2 * kept[1, False], rel=0.01)
    assert kept[1, True] == pytest.approx(96 * 64 * 2, rel=0.05), "a layer keeps its input only"
    # Inputs and outputs of both norms, queries, keys and values, attention's output, and the GELU's input.
    assert kept[1, False] == pytest.approx(96 * 64 * 2 * (2 + 2 + 3 + 1 + 4), rel=0.05)


def test_only_shapes_are_worked_out() -> None:
    """No processor has to be quick at bf16, nor to have the memory: one of these tensors takes 400 GB."""
    wide = GPT2Config(vocab_size=512, n_embd=1600, n_layer=2, n_head=25, n_positions=1024)
    kept = activation_bytes(wide, _forward(rows=2**17, block=1024, checkpointing=False))
    assert kept.layer > 2**17 * 1024 * 1600 * 2


def _setup(*overrides: str, gpu: str | None = None) -> MemorySetup:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return setup_of(Recipe.of(config.resolve(compose("train", list(overrides)))), gpu)


def test_stories_that_are_compared_stand_in_one_row() -> None:
    def activations(*overrides: str) -> float:
        return next(
            part.device for part in memory_items(_setup("model=gpt2", *overrides, gpu="A100-40")) if part.name == "activations"
        )

    alone = activations("objective=bc")
    assert activations("objective=dpo") == pytest.approx(4 * alone, rel=0.05)
    assert activations("objective=reward_model", "objective.pairing.group=2") == pytest.approx(2 * alone, rel=0.05)


@pytest.mark.slow
def test_the_advised_overrides_fit() -> None:
    advised = 0
    assert set(GPUS) == set(get_args(Gpu))
    for gpu in GPUS:
        setup = _setup("model=gpt2-xl", "trainer.micro_batch=3", "model.activation_checkpointing=false", gpu=gpu)
        assert setup.precision == "fp16"
        assert setup.stage == 2
        room = capacity(gpu)
        if not fit(phases_of(setup), room):
            advice = suggest_overrides(setup, room)
            assert advice is not None
            advised += 1
            better = _setup("model=gpt2-xl", "trainer.micro_batch=3", *advice.split(), gpu=gpu)
            assert fit(phases_of(better), room), (gpu, advice)
    assert advised >= 3


@pytest.mark.slow
def test_the_command_tells_and_trains_nothing(tmp_path: Path) -> None:
    output = command(["train.py", "model=gpt2", "plan=V100-16", f"runs_dir={tmp_path / 'runs'}"])
    plan_ = last_json(output)
    assert plan_["fits"] is True
    assert plan_["device_gib"] == pytest.approx(3.4, abs=1.0)
    for word in ("optimizer states", "activations", "logits", "it fits"):
        assert word in output.stdout
    assert not (tmp_path / "runs").exists()
    wrong = command(["train.py", "model=gpt2", "plan=A1000"])
    assert wrong.returncode == 2
    assert "plan must be true or false, or one of A100-80" in wrong.stderr


@pytest.mark.slow
@pytest.mark.skipif("bf16" not in native_precisions(), reason="this processor has no native bf16")
def test_gpt2_takes_what_was_planned(folders: list[str]) -> None:
    """The other sizes are measured by `make bench-plan`."""
    small = [override for override in SMALL if not override.startswith(("model", "precision", "trainer.max", "preprocess"))]
    settings = ["model=gpt2", "model.weights=random", "model.tokenizer=corpus", "precision=bf16_pure", "optimizer=split_adamw",
                "model.corpus_vocabulary=512", "trainer.max_steps=3", "trainer.accumulate=2", "samples.prompts=0"]  # fmt: skip
    arguments = ["train.py", *small, *folders, *settings, "name=planned"]
    planned = last_json(command([*arguments, "plan=true"]))["device_gib"]
    measured = json.loads(command(arguments).stdout.splitlines()[-1])["peak_rss_gib"]
    assert planned == pytest.approx(measured, rel=0.1)
    assert planned * GIB > 1e9
    assert totals(phases_of(_setup("model=gpt2"))).keys() == {"device", "host", "disk"}


AGENT = AgentSetup(judges=(SMALL_GPT2, SMALL_GPT2), judge_tokens=512, slots=8, story=100, offload=False)


def _sizes(phase: str, setup: MemorySetup = SETUP, agent: AgentSetup = AGENT) -> dict[str, tuple[float, float]]:
    return {part.name: (part.device, part.host) for part in agent_phases(setup, agent)[phase]}


def test_each_phase_of_a_round_holds_what_it_works_with() -> None:
    phases = agent_phases(SETUP, AGENT)
    assert list(phases) == ["writing", "reading", "judging", "learning"]
    for phase in phases:
        sizes = _sizes(phase)
        assert sizes["start policy"] == (4 * COUNT, 0)
        assert sizes["judges"] == (2 * 4 * COUNT, 0)
        assert sizes["optimizer states"] == (8 * COUNT, 0)
        assert ("keys and values" in sizes) == (phase == "writing")
        assert ("activations" in sizes) == (phase == "learning")
    assert _sizes("writing")["keys and values"] == (8 * 100 * 3 * 2 * 64 * 4, 0)
    on_gpu = replace(SETUP, gpu=True, precision="fp16", stage=2)
    assert _sizes("writing", on_gpu)["keys and values"] == (8 * 128 * 3 * 2 * 64 * 2, 0), "whole steps of 64 tokens, in fp16"


def test_what_is_not_used_can_lie_in_main_memory() -> None:
    offload = replace(AGENT, offload=True)
    for phase, used in (("writing", []), ("reading", ["start policy"]), ("judging", ["judges"]), ("learning", [])):
        for name, size in (("start policy", 4 * COUNT), ("judges", 8 * COUNT)):
            assert _sizes(phase, agent=offload)[name] == ((size, 0) if name in used else (0, size))


@pytest.mark.parametrize(("rule", "held"), [("mean", 3), ("averaged_weights", 4)])
def test_every_judge_is_counted_once_and_averaged_weights_beside_them(tmp_path: Path, rule: str, held: int) -> None:
    for name in ("one", "two", "watching"):
        SMALL_GPT2.save_pretrained(tmp_path / name)
    judges = f"judge=[{tmp_path / 'one'},{tmp_path / 'two'}]"
    watch = f"rollouts.watch=[{tmp_path / 'two'},{tmp_path / 'watching'}]"
    overrides = ["objective=rwr", "rollouts=own", judges, watch, f"judge_rule={rule}", f"model.weights={tmp_path / 'one'}"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        agent = agent_setup(Recipe.of(config.resolve(compose("train", overrides))))
    assert agent is not None
    assert len(agent.judges) == held


@pytest.mark.parametrize(
    ("changes", "more"), [({}, False), ({"precision": "bf16"}, False), ({"precision": "bf16_pure"}, True), ({"stage": 3}, False),
                          ({"precision": "fp16", "stage": 2}, True)]
)  # fmt: skip
def test_a_policy_that_is_not_fp32_is_held_so_once_more(changes: dict, more: bool) -> None:
    assert ("policy to read with" in _sizes("learning", replace(SETUP, **changes))) == more


def test_a_pass_without_gradients_is_measured_as_tensors_live() -> None:
    model = GPT2LMHeadModel(SMALL_GPT2).eval()
    model.set_attn_implementation(SETUP.attention)
    ids = torch.zeros(2, 96, dtype=torch.int64)
    batch = Batch(
        input_ids_BT=ids, labels_BT=ids, positions_BT=torch.arange(96).expand(2, -1), documents_BT=ids, weights_BT=ids,
        target_tokens=1,
    )  # fmt: skip
    with torch.no_grad(), LiveBytes() as live:
        hidden_states(model, batch)
    # Documents that are really there are attended to by themselves, and copied for it.
    assert inference_bytes(SMALL_GPT2, SETUP.attention, 2, 96) == pytest.approx(live.peak, rel=0.2)
    assert inference_bytes(SMALL_GPT2, SETUP.attention, 4, 96) == pytest.approx(2 * live.peak, rel=0.2)


def test_so_many_distributions_are_held_as_a_policy_is_compared_with_the_start() -> None:
    model = replace_ends(GPT2LMHeadModel(SMALL_GPT2).eval())
    hidden = torch.randn(CHUNK_ROWS, SMALL_GPT2.hidden_size)
    with torch.no_grad(), LiveBytes() as live:
        _of_tokens(model, model, hidden, hidden, torch.zeros(CHUNK_ROWS, dtype=torch.int64))
    assert live.peak == pytest.approx(DISTRIBUTIONS * 4 * CHUNK_ROWS * SMALL_GPT2.vocab_size, rel=0.05)


def test_an_agent_that_does_not_fit_is_told_to_offload() -> None:
    setup = _setup("model=gpt2-xl", "trainer.micro_batch=1", gpu="24GiB")
    agent = replace(AGENT, judges=(setup.config, setup.config), slots=16, story=300)
    room = capacity("24GiB")
    assert not fit(phases_of(setup, agent), room)
    advice = suggest_overrides(setup, room, agent)
    assert advice is not None
    assert advice.startswith("rollouts.offload=true")

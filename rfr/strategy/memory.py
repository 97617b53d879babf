"""The memory that a training run needs, item by item: on each device, in main memory, on disk.

Model and optimizer states follow Rajbhandari et al. 2020 (ZeRO), table 1; `activation_bytes` measures the activations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from rfr.model.attention import NAME as ATTENTION
from rfr.model.output_layer import CHUNK_ROWS, CHUNK_ROWS_ON_CPU, PART_ROWS
from rfr.strategy.activations import ForwardPass, activation_bytes
from rfr.strategy.precision import DTYPE, PURE
from rfr.utils.malloc import GIB

FP32 = 4
NO_OFFLOAD = "none"
DEEPSPEEDS_SUB_GROUP = 1_000_000_000  # parameters, where a strategy does not set it
SWAPPED_AT_ONCE = 5  # groups of parameters that fit into DeepSpeed's buffers where their states are on a disk
CUDA_CONTEXT = round(0.8 * GIB)  # what PyTorch holds on a GPU before the first tensor


@dataclass(frozen=True, kw_only=True)
class MemoryItem:
    """Bytes of one part of a run: on a device, in the machine's memory beside it, on a disk."""

    name: str
    device: float = 0
    host: float = 0
    disk: float = 0


@dataclass(frozen=True, kw_only=True)
class MemorySetup:
    """All of a run that its memory depends on.

    `masters`: fp32 ones beside bf16 parameters, by `SplitAdamW`. `stage`: of ZeRO, 0 for none. `optimizer_on`,
    `parameters_on`: none (the device), cpu or nvme. `bucket`: elements that DeepSpeed exchanges at once. `sub_group`: the number
    of parameters whose states it reads from a disk at once. `gpu`: the device is a GPU, and not the machine itself.
    `attention`: its implementation.
    """

    config: PretrainedConfig
    precision: str
    rows: int
    block: int
    checkpointing: bool
    masters: bool = False
    stage: int = 0
    ranks: int = 1
    optimizer_on: str = NO_OFFLOAD
    parameters_on: str = NO_OFFLOAD
    bucket: int = 0
    sub_group: int = 0
    gpu: bool = False
    attention: str = ATTENTION


def memory_items(setup: MemorySetup) -> list[MemoryItem]:
    """The memory items of one rank at the peak of its training."""
    held, passes = held_and_passes(setup)
    return [*held, *passes]


def held_and_passes(setup: MemorySetup) -> tuple[list[MemoryItem], list[MemoryItem]]:
    """The memory items of one rank: what it holds from its first step to its last, and what forward and backward passes take."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(setup.config)
    count = model.num_parameters()
    vocabulary_by_width = model.get_output_embeddings().weight.shape
    swapped = [_swap_buffers(setup, vocabulary_by_width)] if setup.optimizer_on == "nvme" else []
    passes = [*_activations(setup, count), _logits(setup, vocabulary_by_width)]
    passes.append(_at_the_step(setup, count, sum(part.device for part in passes)))
    return [*_states(setup, count), *swapped], passes


def _states(setup: MemorySetup, count: int) -> list[MemoryItem]:
    """Parameters, gradients, and the optimizer's masters and moments."""
    computed = DTYPE[setup.precision].itemsize
    if setup.stage == 0 and setup.masters:
        return [
            MemoryItem(name="parameters", device=computed * count),
            MemoryItem(name="gradients", device=FP32 * count),
            MemoryItem(name="optimizer states", device=(computed + 2 * FP32) * count),
        ]
    if setup.stage == 0:
        held = computed if setup.precision == PURE else FP32
        return [
            MemoryItem(name="parameters", device=held * count),
            MemoryItem(name="gradients", device=held * count),
            MemoryItem(name="optimizer states", device=2 * held * count),
        ]
    own = count / setup.ranks
    parameters = computed * (own if setup.stage == 3 else count)
    gradients = computed * (own if setup.stage >= 2 else count)
    return [
        _at(setup.parameters_on, "parameters", parameters),
        MemoryItem(name="gradients", device=gradients)
        if setup.optimizer_on == NO_OFFLOAD
        else MemoryItem(name="gradients", device=computed * min(own, setup.bucket), host=_offloaded_gradients(setup) * own),
        _at(setup.optimizer_on, "optimizer states", 3 * FP32 * own),
        MemoryItem(name="DeepSpeed's buffers", device=2 * computed * min(count, setup.bucket)),
    ]


def _offloaded_gradients(setup: MemorySetup) -> int:
    """Bytes of one: in fp32 for the optimizer, and in main memory also as micro-batches add up."""
    return FP32 + (DTYPE[setup.precision].itemsize if setup.optimizer_on == "cpu" else 0)


def _at_the_step(setup: MemorySetup, count: int, passes: float) -> MemoryItem:
    """DeepSpeed's optimizer takes gradients flat and in fp32, once they are all there: what that takes beyond the room of the
    forward and backward passes, which are over by then."""
    computed, own = DTYPE[setup.precision].itemsize, count / setup.ranks
    if setup.stage == 3:
        own = min(own, setup.sub_group or DEEPSPEEDS_SUB_GROUP)
    flat = own * (computed if computed == FP32 else computed + FP32) if setup.stage and setup.optimizer_on == NO_OFFLOAD else 0
    return MemoryItem(name="gradients for the optimizer", device=max(0, flat - passes))


def _swap_buffers(setup: MemorySetup, largest: tuple[int, ...]) -> MemoryItem:
    """Each has room for the largest group; a parameter that is larger than a group is to be is one by itself."""
    return MemoryItem(name="DeepSpeed's swap buffers", host=SWAPPED_AT_ONCE * FP32 * max(setup.sub_group, prod(largest)))


def _at(tier: str, name: str, size: float) -> MemoryItem:
    return MemoryItem(name=name, **{{NO_OFFLOAD: "device", "cpu": "host", "nvme": "disk"}[tier]: size})


def _activations(setup: MemorySetup, count: int) -> list[MemoryItem]:
    """Activations that the forward pass keeps, weights that autocast casts, and on a CPU malloc's overhead."""
    computed, autocast = DTYPE[setup.precision].itemsize, setup.stage == 0 and setup.precision not in ("fp32", PURE)
    forward = ForwardPass(
        rows=setup.rows,
        block=setup.block,
        precision=setup.precision,
        autocast=autocast,
        checkpointing=setup.checkpointing,
        attention=setup.attention,
    )
    kept = activation_bytes(setup.config, forward)
    total, casts = kept.layer * setup.config.num_hidden_layers + kept.outside, computed * count if autocast else 0
    if setup.checkpointing:  # backward recomputes one layer at a time; autocast's copies are freed by then
        again = activation_bytes(setup.config, replace(forward, checkpointing=False, recompute=False))
        total, casts = total + again.layer, max(0, casts - again.layer)
    # malloc can reuse only a part of the freed activations in the next step: as much again was measured.
    lying = 0 if setup.gpu else total
    return [
        MemoryItem(name="activations", device=total),
        MemoryItem(name="weights cast", device=casts),
        MemoryItem(name="freed, kept", device=lying),
    ]


def _logits(setup: MemorySetup, shape: tuple[int, ...]) -> MemoryItem:
    """A chunk of them, the part that is in fp32, and the output layer's gradient; where gradients are not gathered in fp32, or by
    DeepSpeed, autograd has the embedding's beside it."""
    vocabulary, width = shape
    computed = DTYPE[setup.precision].itemsize
    chunk = vocabulary * (
        (CHUNK_ROWS if setup.gpu else CHUNK_ROWS_ON_CPU) * computed + (CHUNK_ROWS if setup.gpu else PART_ROWS) * 2 * FP32
    )
    pure = setup.precision == PURE
    gradients = 2 * computed if setup.stage or (pure and not setup.masters) else computed if pure else FP32
    return MemoryItem(name="logits", device=chunk + gradients * vocabulary * width)

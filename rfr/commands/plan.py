"""`plan=true`: the memory that a run would need, whether it fits, and which overrides help."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from omegaconf import OmegaConf
from transformers import PretrainedConfig

from rfr.commands.rollout_plan import AgentSetup, agent_phases, agent_setup
from rfr.model.load import build_tokenizer, no_random_weights, pretrained_config
from rfr.objective.training_data import PairwiseObjective
from rfr.optimizer.split_adamw import SplitAdamW
from rfr.strategy.memory import CUDA_CONTEXT, NO_OFFLOAD, MemoryItem, MemorySetup, memory_items
from rfr.strategy.precision import PURE, resolve_precision
from rfr.train.exactness import exact_attention
from rfr.train.policy import random_config
from rfr.train.recipe import Recipe
from rfr.utils.conf_folder import CONF
from rfr.utils.malloc import GIB
from rfr.utils.quiet import silence_libraries
from rfr.utils.terminal import print_table

GPUS = {
    "A100-80": 79.1,
    "A100-40": 39.4,
    "V100-32": 31.7,
    "V100-16": 15.8,
    "24GiB": 23.6,
    "H100": 79.1,
}  # GiB that CUDA sees
LIGHTNINGS_BUCKET = 200_000_000  # elements, where a strategy does not set it
RUNNING = round(0.13 * GIB)  # that a run of the demo was seen to take beside: code that is read at its first use, data, loggers
TIERS = ("device", "host", "disk")
Phases = Mapping[str, list[MemoryItem]]  # at the peak of each phase
ALMOST = 0.95  # share of a memory that a plan may fill: freed blocks take the rest
OFFLOAD = "rollouts.offload=true"
CHANGES: dict[str, dict[str, Any]] = {  # cheaper settings, the least slow first; each is added to those before it
    "model.activation_checkpointing=true": {"checkpointing": True},
    "trainer.micro_batch=1": {"rows": 1},
}
STRATEGIES = {  # where all of these are not enough, one of the following is added
    "strategy=deepspeed_offload optimizer=cpu_adam": "deepspeed_offload",
    "strategy=deepspeed_offload_all optimizer=cpu_adam": "deepspeed_offload_all",
    f"strategy=single precision={PURE} optimizer=stochastic_adamw": "single",
    "strategy=deepspeed_nvme optimizer=cpu_adam": "deepspeed_nvme",
}


def plan(recipe: Recipe, gpu: str | None = None) -> None:
    """Print what a run would need of this machine's memory, or of a GPU's, and one JSON line.

    Raises:
        UserError: a judge's folder holds no model.
    """
    silence_libraries()
    setup, agent, room = setup_of(recipe, gpu), agent_setup(recipe), capacity(gpu)
    phases = phases_of(setup, agent)
    where = gpu or (torch.cuda.get_device_name() if setup.gpu else "this machine")
    title = f"{setup.precision} on {where}, {setup.ranks} rank{'s' * (setup.ranks > 1)}"
    if agent is None:
        _print(phases["learning"], room, title, setup.gpu)
    else:
        _print_phases(phases, room, title, setup.gpu)
    fits = fit(phases, room)
    advice = None if fits else suggest_overrides(setup, room, agent)
    hopeless = "no combination of settings in rfr helps"
    print("it fits" if fits else f"it does not fit: {f'add {advice}' if advice else hopeless}")
    by_phase = {phase: _gibs(totals({phase: items})) for phase, items in phases.items()}
    more = {} if agent is None else {"phases": by_phase}
    print(json.dumps({"fits": fits, "remedy": advice, **_gibs(totals(phases)), **more}), flush=True)


def _gibs(sizes: Mapping[str, float]) -> dict[str, float]:
    return {f"{tier}_gib": round(size / GIB, 3) for tier, size in sizes.items()}


def setup_of(recipe: Recipe, gpu: str | None = None) -> MemorySetup:
    """The settings that a recipe's memory depends on. `gpu` names a GPU that need not be here."""
    on_gpu = gpu is not None or torch.cuda.is_available()
    asked = recipe.precision
    precision = ("fp16" if asked == "auto" else asked) if gpu else resolve_precision(asked)
    stories_in_row = recipe.objective.pairing.group if isinstance(recipe.objective, PairwiseObjective) else 1
    config = _config(recipe)
    setup = MemorySetup(
        config=config,
        attention=exact_attention(config, recipe.data_dir),
        precision=precision,
        rows=recipe.trainer.micro_batch,
        block=recipe.model.block_size * stories_in_row,
        checkpointing=recipe.model.activation_checkpointing,
        ranks=recipe.trainer.ranks,
        gpu=on_gpu,
        masters=recipe.make_optimizer.func is SplitAdamW,
    )
    return replace(setup, **_of_strategy(recipe.config["strategy"]))


def _config(recipe: Recipe) -> PretrainedConfig:
    model = recipe.model
    if model.weights not in ("random", "pretrained"):
        return pretrained_config(model.weights, None)
    if recipe.random_config.func is no_random_weights:
        return pretrained_config(model.weights, model.hub_name)
    of_corpus = model.tokenizer in ("corpus", "pretrained")
    tokens = model.corpus_vocabulary if of_corpus else len(build_tokenizer(model.tokenizer, None))
    return random_config(recipe, tokens)  # the pretrained one has the same shapes


def _of_strategy(strategy: Any) -> dict[str, Any]:
    """Those of Lightning's DeepSpeedStrategy that a plan needs; `single` and `ddp` have none of them."""

    def device_of(offloads: str, device: str) -> str:
        return str(strategy.get(device, "cpu")) if strategy.get(offloads) else NO_OFFLOAD

    return {
        "stage": strategy.get("stage", 0),
        "bucket": strategy.get("reduce_bucket_size", LIGHTNINGS_BUCKET),
        "sub_group": strategy.get("sub_group_size", 0),
        "optimizer_on": device_of("offload_optimizer", "offload_optimizer_device"),
        "parameters_on": device_of("offload_parameters", "offload_params_device"),
    }


def phases_of(setup: MemorySetup, agent: AgentSetup | None = None) -> Phases:
    """The parts of one rank and what a process takes before the first of them, in each phase of a round. Where people's stories
    are learned from, there is one phase."""
    process = _process()
    runtime = (
        MemoryItem(name="PyTorch and all that", device=CUDA_CONTEXT, host=process)
        if setup.gpu
        else MemoryItem(name="Python and its libraries", device=process)
    )
    phases = {"learning": memory_items(setup)} if agent is None else agent_phases(setup, agent)
    return {phase: [_in_its_memory(part, setup) for part in (runtime, *items)] for phase, items in phases.items()}


def _in_its_memory(part: MemoryItem, setup: MemorySetup) -> MemoryItem:
    """Without a GPU, device and host are the same memory."""
    return part if setup.gpu else replace(part, device=part.device + part.host, host=0)


@cache
def _process() -> float:
    """Bytes of a process with nothing but its libraries: this one, before it plans anything; and what a run takes beside."""
    return float(psutil.Process().memory_info().rss + RUNNING)


def capacity(gpu: str | None) -> dict[str, float]:
    """Bytes of a device, of the machine beside it, and of its disk."""
    host = psutil.virtual_memory().total
    disk = shutil.disk_usage(Path.cwd()).free
    if gpu is not None:
        # The memory and the disk of another machine are not known.
        return {"device": GPUS[gpu] * GIB, "host": float("inf"), "disk": float("inf")}
    if torch.cuda.is_available():
        return {"device": float(torch.cuda.get_device_properties(0).total_memory), "host": host, "disk": disk}
    return {"device": host, "host": host, "disk": disk}


def fit(phases: Phases, room: Mapping[str, float]) -> bool:
    needs = totals(phases)
    return all(needs[tier] <= ALMOST * room[tier] for tier in room)


def totals(phases: Phases) -> dict[str, float]:
    """Bytes of each tier in the phase that takes the most of it."""
    return {tier: max(sum(getattr(part, tier) for part in items) for items in phases.values()) for tier in TIERS}


def suggest_overrides(setup: MemorySetup, room: Mapping[str, float], agent: AgentSetup | None = None) -> str | None:
    """The first overrides, and those before them that go with any strategy, with which it fits."""
    settings: list[str] = []
    if agent is not None and setup.gpu and not agent.offload:
        agent, settings = replace(agent, offload=True), [OFFLOAD]
        if fit(phases_of(setup, agent), room):
            return OFFLOAD
    for overrides, change in CHANGES.items():
        if all(getattr(setup, name) == value for name, value in change.items()):
            continue
        setup, settings = replace(setup, **change), [*settings, overrides]
        if fit(phases_of(setup, agent), room):
            return " ".join(settings)
    for overrides, name in STRATEGIES.items():
        precision = PURE if PURE in overrides else "bf16" if setup.precision == PURE else setup.precision
        other = replace(setup, precision=precision, **_of_strategy(OmegaConf.load(CONF / "strategy" / f"{name}.yaml")))
        if fit(phases_of(other, agent), room):
            return " ".join([*settings, overrides])
    return None


def _print(items: list[MemoryItem], room: Mapping[str, float], title: str, gpu: bool) -> None:
    tiers = _tiers(gpu)
    rows: list[dict[str, Any]] = [
        {"GiB": part.name, **{label: _gib(getattr(part, tier)) for tier, label in tiers.items()}}
        for part in items
        if part.device or part.host or part.disk
    ]
    rows.append({"GiB": "all of it", **{label: _gib(totals({"": items})[tier]) for tier, label in tiers.items()}})
    rows.append({"GiB": "there is", **{label: _gib(room[tier]) for tier, label in tiers.items()}})
    print_table(rows, title=title)


def _print_phases(phases: Phases, room: Mapping[str, float], title: str, gpu: bool) -> None:
    """A table for each memory that something lies in: parts by phases."""
    names = list(dict.fromkeys(part.name for items in phases.values() for part in items))
    for tier, label in _tiers(gpu).items():
        by_phase = {phase: {part.name: getattr(part, tier) for part in items} for phase, items in phases.items()}
        rows: list[dict[str, Any]] = [
            {"GiB": name, **{phase: _gib(sizes.get(name, 0)) for phase, sizes in by_phase.items()}}
            for name in names
            if any(sizes.get(name) for sizes in by_phase.values())
        ]
        if rows:
            rows.append({"GiB": "all of it", **{phase: _gib(sum(sizes.values())) for phase, sizes in by_phase.items()}})
            rows.append({"GiB": "there is", **dict.fromkeys(phases, _gib(room[tier]))})
            print_table(rows, title=f"{label}: {title}")


def _tiers(gpu: bool) -> dict[str, str]:
    return {"device": "GPU" if gpu else "memory", **({"host": "main memory"} if gpu else {}), "disk": "disk"}


def _gib(size: float) -> str:
    return "?" if size == float("inf") else f"{size / GIB:,.2f}" if size else ""

"""The memory of a run with `rollouts=own`, phase by phase: writing stories, reading them, judging them, learning from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from rfr.evaluate.policy_divergence import CHUNK_ROWS, DISTRIBUTIONS
from rfr.evaluate.policy_divergence import TOKENS as TOKENS_TO_READ
from rfr.evaluate.reward_model_judge import TOKENS as TOKENS_TO_JUDGE
from rfr.evaluate.score import JudgeScore
from rfr.generation.slot_attention import LENGTH_STEP
from rfr.generation.slot_cache import slot_bytes
from rfr.generation.written_out import is_worth_packing
from rfr.model.load import pretrained_config
from rfr.strategy.inference_activations import inference_bytes
from rfr.strategy.memory import FP32, MemoryItem, MemorySetup, held_and_passes
from rfr.strategy.precision import DTYPE, PURE
from rfr.train.recipe import Recipe

LONGEST_TITLE = 64  # tokens; on Reddit it has 300 characters
DRAWN_FROM = 4  # arrays of slots x vocabulary that a draw holds: logits, probabilities, and two on the way
START, JUDGES = "start policy", "judges"


@dataclass(frozen=True, kw_only=True)
class AgentSetup:
    """The settings, beside those of training, that decide how much memory a run with own stories takes.

    Args:
        judges: the configs of all reward models, watching ones with them.
        judge_tokens: that a judge reads at once.
        slots: stories that are written at once.
        story: tokens of the longest prompt and its story.
        offload: start policy and judges lie in main memory while they are not used.
    """

    judges: tuple[PretrainedConfig, ...]
    judge_tokens: int
    slots: int
    story: int
    offload: bool


def agent_setup(recipe: Recipe) -> AgentSetup | None:
    """None where people's stories are learned from.

    Raises:
        UserError: a folder holds no model.
    """
    rollouts, score = recipe.rollouts, recipe.score
    if rollouts is None:
        return None
    models, tokens = (score.models, score.tokens) if isinstance(score, JudgeScore) else ((), TOKENS_TO_JUDGE)
    watching = [folder for folder in rollouts.watch_folders if folder not in models]
    longest = min(recipe.model.block_size, LONGEST_TITLE + rollouts.sampling.max_new_tokens)
    return AgentSetup(
        judges=tuple(pretrained_config(folder, None) for folder in (*models, *watching)),
        judge_tokens=tokens,
        slots=min(rollouts.sampling.slots, rollouts.prompts * rollouts.stories),
        story=longest,
        offload=rollouts.offload,
    )


def agent_phases(setup: MemorySetup, agent: AgentSetup) -> dict[str, list[MemoryItem]]:
    """The memory items of one rank in each phase of a round."""
    held, passes = held_and_passes(setup)
    start = FP32 * _count(setup.config)
    if not _writes_itself(setup):
        held = [*held, MemoryItem(name="policy to read with", device=start)]
    judges = FP32 * sum(map(_count, agent.judges))
    working = {
        "writing": [_keys_and_values(setup, agent), _draws(setup, agent), *_packed(setup)],
        "reading": [_read(setup, agent)],
        "judging": [_judge(setup, agent)],
        "learning": passes,
    }
    used = {"reading": START, "judging": JUDGES}
    return {
        phase: [*held, *(_model(name, size, agent, used.get(phase)) for name, size in ((START, start), (JUDGES, judges))), *items]
        for phase, items in working.items()
    }


def _model(name: str, size: float, agent: AgentSetup, used: str | None) -> MemoryItem:
    if agent.offload and used != name:
        return MemoryItem(name=name, host=size)
    return MemoryItem(name=name, device=size)


def _writes_itself(setup: MemorySetup) -> bool:
    """Whether the policy's own parameters are whole and fp32; else another model holds them so."""
    return setup.precision == "fp32" or (setup.stage == 0 and not setup.masters and setup.precision != PURE)


def _keys_and_values(setup: MemorySetup, agent: AgentSetup) -> MemoryItem:
    """On a GPU slots have room for a multiple of some tokens; in main memory only what is written takes room."""
    tokens = -(-agent.story // LENGTH_STEP) * LENGTH_STEP if setup.gpu else agent.story
    return MemoryItem(name="keys and values", device=agent.slots * slot_bytes(setup.config, _writing_dtype(setup), tokens))


def _writing_dtype(setup: MemorySetup) -> torch.dtype:
    return torch.float32 if setup.stage == 0 and setup.precision != PURE else DTYPE[setup.precision]


def _draws(setup: MemorySetup, agent: AgentSetup) -> MemoryItem:
    return MemoryItem(name="draws", device=DRAWN_FROM * FP32 * agent.slots * setup.config.vocab_size)


def _packed(setup: MemorySetup) -> list[MemoryItem]:
    """The copies of matrices that the compiled forward pass reads; counted for every architecture, as if all had one."""
    parameters = _count(setup.config)
    is_packed = not setup.gpu and is_worth_packing(parameters, _writing_dtype(setup))
    return [MemoryItem(name="packed matrices", device=FP32 * parameters)] if is_packed else []


def _read(setup: MemorySetup, agent: AgentSetup) -> MemoryItem:
    """Two policies read the same stories one after the other; the hidden states of both lie there as distributions are made."""
    rows = max(1, TOKENS_TO_READ // agent.story)
    hidden = 2 * FP32 * rows * agent.story * setup.config.hidden_size
    distributions = DISTRIBUTIONS * FP32 * CHUNK_ROWS * setup.config.vocab_size
    passed = inference_bytes(setup.config, setup.attention, rows, agent.story)
    return MemoryItem(name="reading", device=hidden + max(passed, distributions))


def _judge(setup: MemorySetup, agent: AgentSetup) -> MemoryItem:
    rows = max(1, agent.judge_tokens // agent.story)
    passes = (inference_bytes(config, setup.attention, rows, agent.story) for config in agent.judges)
    return MemoryItem(name="judging", device=max(passes, default=0))


def _count(config: PretrainedConfig) -> int:
    with torch.device("meta"):
        return int(AutoModelForCausalLM.from_config(config).num_parameters())

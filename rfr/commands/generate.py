"""The generate command: loads a trained policy and prints stories."""

from __future__ import annotations

import json
from functools import partial
from typing import TypedDict

from hydra.utils import instantiate
from omegaconf import DictConfig

from rfr.config import check_types, plain, resolve
from rfr.data.clean.titles import canonical_prompt
from rfr.errors import UserError
from rfr.generation.sampling import Sampling, sample
from rfr.model.load import load_policy
from rfr.ranges import Block, Count
from rfr.train.exactness import exact_attention
from rfr.utils.quiet import silence_libraries
from rfr.utils.typecheck import Called


class GivenModel(TypedDict, total=False):
    """The policy that is loaded."""

    weights: str
    block_size: Block | None


class GenerateConfig(TypedDict):
    """`conf/generate.yaml`."""

    data_dir: str
    runs_dir: str
    stories: Count
    model: GivenModel
    sampling: Called


def generate(cfg: DictConfig, prompts: list[str]) -> None:
    """Print one JSON line per story: prompt, response, settings.

    Raises:
        UserError: no model at the path, an empty prompt, or one longer than the model's block.
    """
    cfg, sampling = checked(cfg)
    silence_libraries()
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UserError('no prompt: give prompt="[WP] ..."')
    settings = {
        "weights": cfg.model.weights,
        **{name: value for name, value in plain(cfg.sampling).items() if name != "_target_"},
    }
    model, tokenizer = load_policy(cfg.model.weights, partial(exact_attention, data_dir=cfg.data_dir))
    prompts = [canonical_prompt(prompt) for prompt in prompts for _ in range(cfg.stories)]
    for story in sample(model, tokenizer, prompts, sampling):
        print(json.dumps({"prompt": story.prompt, "response": story.text, "settings": settings}), flush=True)


def checked(cfg: DictConfig) -> tuple[DictConfig, Sampling]:
    """The config, resolved, with every value checked, and how to sample.

    Raises:
        UserError: a value is wrong.
    """
    cfg = check_types(resolve(cfg), GenerateConfig)
    return cfg, instantiate(cfg.sampling)

"""The generate command: a trained policy, loaded again, writes stories."""

from __future__ import annotations

import json
from functools import partial
from typing import TypedDict

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rfr.config import checked, resolve
from rfr.data.clean.titles import canonical_prompt
from rfr.generation.sampling import sample
from rfr.loggers.loggers import quiet
from rfr.model.load import load_policy
from rfr.ranges import Block, Count
from rfr.train.exactness import exact_attention
from rfr.utils.typecheck import Called


def generate(cfg: DictConfig, prompts: list[str]) -> None:
    """Print one JSON line per story: prompt, response, settings.

    Raises:
        ValueError: no model at the path, an empty prompt, or one longer than the model's block.
    """
    cfg = parts_of_generate(cfg)
    quiet()
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise ValueError('nothing to answer: give prompt="[WP] ..."')
    settings = OmegaConf.to_container(cfg.sampling, resolve=True)
    assert isinstance(settings, dict)
    sampling = instantiate(cfg.sampling)
    model, tokenizer = load_policy(cfg.model.weights, partial(exact_attention, data_dir=cfg.data_dir))
    prompts = [canonical_prompt(prompt) for prompt in prompts for _ in range(cfg.stories)]
    del settings["_target_"]
    for prompt, story in zip(prompts, sample(model, tokenizer, prompts, sampling), strict=True):
        print(
            json.dumps({"prompt": prompt, "response": story, "settings": {"weights": cfg.model.weights, **settings}}), flush=True
        )


def parts_of_generate(cfg: DictConfig) -> DictConfig:
    """The config with every value checked.

    Raises:
        ValueError: one is wrong.
    """
    cfg = checked(resolve(cfg), Generate)
    instantiate(cfg.sampling)
    return cfg


class GivenModel(TypedDict, total=False):
    """A policy that is loaded."""

    weights: str
    block_size: Block | None


class Generate(TypedDict):
    """generate.py's own keys."""

    data_dir: str
    runs_dir: str
    stories: Count
    model: GivenModel
    sampling: Called

"""The generate and evaluate commands: a trained policy, loaded again and put to work."""

from __future__ import annotations

import json
from functools import partial
from typing import TypedDict

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rfr.commands.compare import Compare
from rfr.config import checked, resolve, resolve_part
from rfr.data.clean.titles import canonical_prompt
from rfr.errors import UserError
from rfr.generation.sampling import sample
from rfr.commands.karma_report import Karma
from rfr.loggers.loggers import quiet
from rfr.model.load import load_policy
from rfr.commands.policy_report import Policy
from rfr.ranges import Block, Count, Whole
from rfr.train.exactness import exact_attention
from rfr.train.settings import Precision
from rfr.utils.settings import Called
from rfr.commands.dashboard import Dashboard


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


def require_evaluation(cfg: DictConfig) -> None:
    """Every value checked, before a model or a store is opened.

    Raises:
        ValueError: one is wrong.
    """
    cfg = cfg.copy()
    if OmegaConf.is_missing(cfg.model, "weights"):
        cfg.model.weights = "given later"
    if cfg.model.block_size is None:  # the model's own
        cfg.model.block_size = 1024
    cfg = checked(resolve(cfg), Evaluate)
    for part in ("corpus", "preprocess", "ranking", "sampling", "rewards"):
        instantiate(cfg[part])


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


class Evaluate(TypedDict):
    """evaluate.py's own keys."""

    data_dir: str
    runs_dir: str
    runs: list[str]
    out: str | None
    micro_batch: Count
    wandb_project: str | None
    judge: str | None
    against: list[str]
    stories: Whole
    precision: Precision
    model: GivenModel
    mode: Called
    corpus: Called
    preprocess: Called
    rewards: dict[str, Called]
    ranking: Called
    sampling: Called


def evaluate(cfg: DictConfig) -> None:
    """What the mode says.

    Raises:
        UserError: it is one of collect.py's, or a value is wrong.
    """
    quiet()
    mode = instantiate(resolve_part(cfg, "mode"))
    if not isinstance(mode, (Policy, Karma, Compare, Dashboard)):
        raise UserError(
            f"mode={HydraConfig.get().runtime.choices['mode']} is collect.py's: give mode=policy, karma, compare or dashboard"
        )
    require_evaluation(cfg)
    mode.run(cfg)

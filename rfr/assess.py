"""The generate and evaluate commands: a trained policy, loaded again and put to work."""

from __future__ import annotations

import json

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rfr.compare.command import Compare
from rfr.config import resolve_part
from rfr.data.prompts import canonical_prompt
from rfr.errors import UserError
from rfr.generate import sample
from rfr.karma_report import Karma
from rfr.loggers import quiet
from rfr.model.build import load_policy
from rfr.policy_report import Policy
from rfr.wandb.dashboard import Dashboard


def generate(cfg: DictConfig, prompts: list[str]) -> None:
    """Print one JSON line per story: prompt, response, settings.

    Raises:
        ValueError: no model at the path, an empty prompt, or one longer than the model's block.
    """
    quiet()
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise ValueError('nothing to answer: give prompt="[WP] ..."')
    settings = OmegaConf.to_container(cfg.sampling, resolve=True)
    assert isinstance(settings, dict)
    sampling = instantiate(cfg.sampling)
    model, tokenizer = load_policy(cfg.model.weights)
    prompts = [canonical_prompt(prompt) for prompt in prompts for _ in range(cfg.stories)]
    del settings["_target_"]
    for prompt, story in zip(prompts, sample(model, tokenizer, prompts, sampling), strict=True):
        print(
            json.dumps({"prompt": prompt, "response": story, "settings": {"weights": cfg.model.weights, **settings}}), flush=True
        )


def evaluate(cfg: DictConfig) -> None:
    """What the mode says.

    Raises:
        UserError: it is one of collect.py's.
    """
    quiet()
    mode = instantiate(resolve_part(cfg, "mode"))
    if not isinstance(mode, (Policy, Karma, Compare, Dashboard)):
        raise UserError(
            f"mode={HydraConfig.get().runtime.choices['mode']} is collect.py's: give mode=policy, karma, compare or dashboard"
        )
    mode.run(cfg)

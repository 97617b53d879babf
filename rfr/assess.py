"""The generate and evaluate commands: a trained policy, loaded again and put to work."""

from __future__ import annotations

import json
import os
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.config import resolve, resolve_part
from rfr.data.prepare import PreparedSplit
from rfr.data.prompts import canonical_prompt
from rfr.data.tokenise import Encoder
from rfr.errors import UserError
from rfr.evaluate.policy import LIKELIHOOD, likelihood_findings, rewards_of, text_findings
from rfr.evaluate.quality import judge
from rfr.generate import sample
from rfr.karma_report import Karma
from rfr.loggers import quiet
from rfr.model.build import build_model, build_tokenizer
from rfr.report.page import evaluation_page
from rfr.report.table import print_table
from rfr.report.verdict import verdict
from rfr.terminal import printable


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


def load_policy(weights: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model (on the GPU where there is one, in evaluation mode) and tokenizer of a Hugging Face folder."""
    if not (Path(weights) / "config.json").is_file():
        raise ValueError(f"no model folder at {weights}: train.py leaves one in runs/<name>/model")
    tokenizer = build_tokenizer(weights, None)
    model = build_model(weights, None, _never, seed=0, dropout=0.0)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]
    return model.eval(), tokenizer


def _never() -> Any:
    raise AssertionError("a policy is loaded from a path, never drawn at random")


def evaluate(cfg: DictConfig) -> None:
    """What the mode says.

    Raises:
        UserError: it is one of collect.py's.
    """
    quiet()
    mode = instantiate(resolve_part(cfg, "mode"))
    if not isinstance(mode, (Policy, Karma)):
        raise UserError(f"mode={HydraConfig.get().runtime.choices['mode']} is collect.py's: give mode=policy or mode=karma")
    mode.run(cfg)


class Policy:
    """The mode of evaluate.py that judges a policy on the validation split."""

    def run(self, cfg: DictConfig) -> None:
        """Leave `evaluation.json` and `report.html`, print tables and one JSON line."""
        _report(cfg)


def _report(cfg: DictConfig) -> None:
    out = Path(cfg.out or Path(cfg.model.weights).resolve().parent)
    evaluation, stories = _evaluation(cfg, cfg.model.weights)
    for weights in cfg.against:
        others, _ = _evaluation(cfg, weights)
        evaluation[f"beside it: {weights}"] = {k: v for k, v in others.items() if k not in ("model", "pair_accuracy")}
        evaluation["pair_accuracy"] += [
            {**row, "score": f"{row['score']} of {weights}"} for row in others["pair_accuracy"] if row["score"] == LIKELIHOOD
        ]
    _replace(out / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")
    _replace(out / "report.html", evaluation_page(evaluation, stories))
    _print(evaluation)
    print(json.dumps({key: value for key, value in evaluation.items() if key != "pair_accuracy"} | {"out": str(out)}))


def _evaluation(cfg: DictConfig, weights: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What is found out about a policy, and stories that it wrote."""
    model, tokenizer = load_policy(weights)
    cfg = cfg.copy()
    cfg.model.block_size = cfg.model.block_size or model.config.max_position_embeddings
    cfg = resolve(cfg)
    corpus, ranking = instantiate(cfg.corpus), instantiate(cfg.ranking)
    identity = OmegaConf.to_container(cfg.preprocess), tokenizer.backend_tokenizer.to_str()
    with corpus.open() as store:
        prepared = instantiate(cfg.preprocess).prepare(store, lambda _: tokenizer, identity, Path(cfg.data_dir) / "cache")
    split = prepared.validation
    rewards, refused = rewards_of(instantiate(cfg.rewards), prepared)
    evaluation: dict[str, Any] = {
        "model": weights, "threads": len(split.threads), "held_out_stories": len(split.pairs),
        **likelihood_findings(model, split, cfg.micro_batch, ranking, rewards),
        **({"rewards_not_to_be_had_here": refused} if refused else {}),
    }  # fmt: skip
    written = _write(cfg, model, tokenizer, split, corpus.quality, evaluation) if cfg.stories else []
    if written:
        encoder = Encoder(tokenizer)
        evaluation |= text_findings([s["response"] for s in written], prepared, lambda texts: [t.ids for t in encoder(texts)])
    return evaluation, written[:8]


def _write(
    cfg: DictConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: PreparedSplit, quality: Any,
    evaluation: dict[str, Any],
) -> list[dict[str, str]]:  # fmt: skip
    """Stories on the held-out prompts in turn; where true quality is known, what it is."""
    written: list[dict[str, str]] = []

    def write(prompts: list[str]) -> list[str]:
        stories = sample(model, tokenizer, prompts, instantiate(cfg.sampling))
        written.extend({"prompt": p, "response": s} for p, s in zip(prompts, stories, strict=True))
        return stories

    prompts = [pair.prompt for pair in split.pairs]
    if quality is not None:
        evaluation |= judge(write, prompts, cfg.stories, quality)
    else:
        write(list(islice(cycle(dict.fromkeys(prompts)), cfg.stories)))
    return written


def _print(evaluation: dict[str, Any]) -> None:
    rows = evaluation["pair_accuracy"]
    for ratio in dict.fromkeys(row["ratio"] for row in rows):
        table: dict[str, dict[str, str]] = {}
        for row in (row for row in rows if row["ratio"] == ratio):
            shown = f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if row["pairs"] else "n/a"
            table.setdefault(row["score"], {"score": row["score"]})[row["condition"]] = shown
        print_table(list(table.values()), title=f"pair accuracy, one with {ratio} times the other's karma or more")
    for sentence in verdict(evaluation):
        print(f"- {printable(sentence)}")


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(text)
    os.replace(partial, path)

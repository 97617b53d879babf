"""The generate and evaluate commands: a trained policy, loaded again and put to work."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.config import resolve
from rfr.data.prepare import PreparedSplit
from rfr.data.prompts import canonical_prompt
from rfr.evaluate.perplexity import perplexity, story_nll
from rfr.evaluate.quality import judge
from rfr.evaluate.ranking import length_matched, pair_accuracy
from rfr.generate import sample
from rfr.loggers import quiet
from rfr.model.build import build_model, build_tokenizer
from rfr.report.page import evaluation_page
from rfr.report.table import print_table


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
    """Judge a policy on the validation split: `evaluation.json`, `report.html`, a table, one JSON line."""
    quiet()
    model, tokenizer = load_policy(cfg.model.weights)
    cfg.model.block_size = cfg.model.block_size or model.config.max_position_embeddings
    cfg = resolve(cfg)
    corpus = instantiate(cfg.corpus)
    identity = OmegaConf.to_container(cfg.preprocess), tokenizer.backend_tokenizer.to_str()
    with corpus.open() as store:
        prepared = instantiate(cfg.preprocess).prepare(store, lambda _: tokenizer, identity, Path(cfg.data_dir) / "cache")
    evaluation, stories = _judge(cfg, model, tokenizer, prepared.validation, corpus.quality)
    out = Path(cfg.out or Path(cfg.model.weights).resolve().parent)
    _replace(out / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")
    _replace(out / "report.html", evaluation_page(evaluation, stories))
    print_table([{"score, pairs": name, **found} for name, found in evaluation["pair_accuracy"].items()], title="pair accuracy")
    print(json.dumps({key: value for key, value in evaluation.items() if key != "pair_accuracy"} | {"out": str(out)}))


def _judge(
    cfg: DictConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: PreparedSplit, quality: Any
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    nll_sums, tokens = story_nll(model, split.rows, cfg.micro_batch)
    likelihood = -nll_sums / tokens
    lengths = [len(pair.response.split()) for pair in split.pairs]
    evaluation: dict[str, Any] = {
        "model": cfg.model.weights,
        "threads": len(split.threads),
        "held_out_stories": len(split.pairs),
        **perplexity(nll_sums, tokens, split.pairs),
        "pair_accuracy": _accuracies(split, {"log-likelihood per token": likelihood, "length alone": lengths}),
    }
    written: list[dict[str, str]] = []

    def write(prompts: list[str]) -> list[str]:
        stories = sample(model, tokenizer, prompts, instantiate(cfg.sampling))
        written.extend({"prompt": p, "response": s} for p, s in zip(prompts, stories, strict=True))
        return stories

    if cfg.stories and quality is not None:
        evaluation |= judge(write, [pair.prompt for pair in split.pairs], cfg.stories, quality)
    elif cfg.stories:
        write(list(dict.fromkeys(pair.prompt for pair in split.pairs))[: min(3, cfg.stories)])
    return evaluation, written[:8]


def _accuracies(split: PreparedSplit, scores: dict[str, SequenceOf[float]]) -> dict[str, Any]:
    return {
        f"{name}, karma x{ratio}{label}": pair_accuracy(split.pairs, score, ratio, **condition)
        for ratio in (2, 5)
        for label, condition in (("", {}), (", length-matched", {"keep": length_matched}))
        for name, score in scores.items()
    }


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(text)
    os.replace(partial, path)

"""`evaluate.py mode=policy`: a policy judged on held-out threads, beside others if asked for."""

from __future__ import annotations

import json
import os
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.config import resolve
from rfr.data.prepare import PreparedSplit
from rfr.data.tokenise import Encoder
from rfr.evaluate.policies import Judged, gain
from rfr.evaluate.policy import LIKELIHOOD, likelihood_findings, rewards_of, text_findings
from rfr.evaluate.quality import judge
from rfr.generate import sample
from rfr.model.build import load_policy
from rfr.report.page import evaluation_page
from rfr.report.table import print_table
from rfr.report.verdict import verdict
from rfr.terminal import printable

SHOWN = 8  # stories on the page
BY_ITSELF = ("model", "pair_accuracy", "baselines")  # not repeated of a policy that stands beside
Story = dict[str, Any]  # prompt, response, and its true quality where that is known


class Policy:
    """The mode of evaluate.py that judges a policy on the validation split."""

    def run(self, cfg: DictConfig) -> None:
        """Leave `evaluation.json` and `report.html`, print tables and one JSON line."""
        _report(cfg)


def _report(cfg: DictConfig) -> None:
    out = Path(cfg.out or Path(cfg.model.weights).resolve().parent)
    evaluation, stories = _evaluation(cfg, cfg.model.weights)
    for weights in cfg.against:
        others, their_stories = _evaluation(cfg, weights)
        evaluation[f"beside it: {weights}"] = {k: v for k, v in others.items() if k not in BY_ITSELF}
        evaluation |= _gain(stories, their_stories, weights)
        evaluation["pair_accuracy"] += [
            {**row, "score": f"{row['score']} of {weights}"} for row in others["pair_accuracy"] if row["score"] == LIKELIHOOD
        ]
    _replace(out / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")
    _replace(out / "report.html", evaluation_page(evaluation, stories[:SHOWN]))
    _print(evaluation)
    print(json.dumps({key: value for key, value in evaluation.items() if key != "pair_accuracy"} | {"out": str(out)}))


def _evaluation(cfg: DictConfig, weights: str) -> tuple[dict[str, Any], list[Story]]:
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
    return evaluation, written


def _gain(mine: list[Story], theirs: list[Story], other: str) -> dict[str, Any]:
    """How much better than another policy it writes on the prompts that both have, where true quality is known."""
    if not mine or "quality" not in mine[0]:
        return {}
    common = {story["prompt"] for story in mine} & {story["prompt"] for story in theirs}
    judged = [
        [
            Judged(prompt=s["prompt"], words=len(s["response"].split()), score=s["quality"])
            for s in stories
            if s["prompt"] in common
        ]
        for stories in (mine, theirs)
    ]
    return {f"true quality over that of {other}": vars(gain(judged[:1], judged[1:]))}


def _write(
    cfg: DictConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: PreparedSplit, quality: Any,
    evaluation: dict[str, Any],
) -> list[Story]:  # fmt: skip
    """Stories on the held-out prompts in turn; where true quality is known, what it is."""
    written: list[Story] = []

    def write(prompts: list[str]) -> list[str]:
        stories = sample(model, tokenizer, prompts, instantiate(cfg.sampling))
        written.extend({"prompt": p, "response": s} for p, s in zip(prompts, stories, strict=True))
        for story in written if quality is not None else []:
            story["quality"] = quality(story["prompt"], story["response"])
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

"""`evaluate.py mode=policy`: a policy judged on held-out threads, beside others if asked for."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.config import corpus_name, load, resolve
from rfr.data.pack.packing import BestFit
from rfr.data.prepare import PreparedSplit
from rfr.data.tokenise import Encoder, content_of
from rfr.evaluate.metrics import LIKELIHOOD, likelihood_findings, rewards_of, text_findings
from rfr.evaluate.paired_gain import Judged, gain
from rfr.evaluate.quality import in_turn, mean_score
from rfr.evaluate.reward_model_judge import RewardModelJudge
from rfr.generation.sampling import sample
from rfr.model.load import load_policy
from rfr.model.positions import block_of
from rfr.model.reward_model import load_reward_model
from rfr.report.evaluation_page import evaluation_page
from rfr.report.findings import OVER, verdict
from rfr.report.output import ABOUT, require_place, write_report
from rfr.strategy.precision import computing_in
from rfr.strategy.precision import resolve as resolve_precision
from rfr.train.exactness import exact_attention
from rfr.utils.terminal import print_table, printable

REWARD_MODEL, SCORE = "reward model", "reward_model_score"  # its name among what ranks replies, and of what it gives for stories
SHOWN = 8  # stories on the page
BY_ITSELF = ("model", "pair_accuracy", "baselines")  # not repeated of a policy that stands beside
Story = dict[str, Any]  # prompt, response, and what each judge gives for it


class Policy:
    """The mode of evaluate.py that judges a policy on the validation split."""

    def run(self, cfg: DictConfig) -> None:
        """Leave `evaluation.json` and `report.html`, print tables and one JSON line."""
        _report(cfg)


def _report(cfg: DictConfig) -> None:
    out = Path(cfg.out or Path(cfg.model.weights).resolve().parent)
    about = _about(cfg, out)
    require_place(out, "evaluation.json", about)
    judge = _judge(cfg) if cfg.judge else None
    evaluation, stories = _evaluation(cfg, cfg.model.weights, judge)
    for weights in cfg.against:
        others, their_stories = _evaluation(cfg, weights, judge)
        evaluation[f"beside it: {weights}"] = {k: v for k, v in others.items() if k not in BY_ITSELF}
        evaluation |= _gains(stories, their_stories, weights)
        evaluation["pair_accuracy"] += [
            {**row, "score": f"{row['score']} of {weights}"} for row in others["pair_accuracy"] if row["score"] == LIKELIHOOD
        ]
    _print(evaluation)
    print(json.dumps({key: value for key, value in evaluation.items() if key != "pair_accuracy"} | {"out": str(out)}), flush=True)
    page = evaluation_page(evaluation, stories[:SHOWN])
    write_report(
        out, {"evaluation.json": json.dumps({ABOUT: about, **evaluation}, indent=2) + "\n", "report.html": page}
    )  # fmt: skip
    if cfg.wandb_project:
        from rfr.loggers.wandb_run import tell_evaluation

        trained = (out / "config.yaml").is_file()
        tell_evaluation(out, evaluation, load(out).group if trained else None, cfg.wandb_project)


def _about(cfg: DictConfig, out: Path) -> dict[str, str]:
    """Of a policy that lies in the folder, its place there: a run that was moved is still that run."""
    weights = Path(cfg.model.weights).resolve()
    inside = weights.is_relative_to(out.resolve())
    return {"model": str(weights.relative_to(out.resolve()) if inside else weights), "corpus": corpus_name(cfg)}


def _judge(cfg: DictConfig) -> RewardModelJudge:
    model, tokenizer = load_reward_model(cfg.judge, partial(exact_attention, data_dir=cfg.data_dir))
    return RewardModelJudge(model, tokenizer, cfg.micro_batch)


def _evaluation(cfg: DictConfig, weights: str, judge: RewardModelJudge | None) -> tuple[dict[str, Any], list[Story]]:
    """What is found out about a policy, and stories that it wrote."""
    remedy = "set packing=off" if isinstance(instantiate(cfg.preprocess.packing), BestFit) else None
    model, tokenizer = load_policy(weights, partial(exact_attention, data_dir=cfg.data_dir, remedy=remedy))
    cfg = cfg.copy()
    cfg.model.block_size = cfg.model.block_size or block_of(model.config)
    cfg = resolve(cfg)
    corpus, ranking = instantiate(cfg.corpus), instantiate(cfg.ranking)
    identity = OmegaConf.to_container(cfg.preprocess), content_of(tokenizer)
    with corpus.open() as store:
        prepared = instantiate(cfg.preprocess).prepare(store, lambda _: tokenizer, identity, Path(cfg.data_dir) / "cache")
    split = prepared.validation
    others, refused = rewards_of(instantiate(cfg.rewards), prepared)
    with computing_in(resolve_precision(cfg.precision), model.device.type):
        if judge is not None:
            others[REWARD_MODEL] = judge([(pair.prompt, pair.response) for pair in split.pairs])
        found = likelihood_findings(model, split, cfg.micro_batch, ranking, others)
    evaluation: dict[str, Any] = {
        "model": weights, "threads": len(split.threads), "held_out_stories": len(split.pairs),
        **found,
        **({"rewards_not_to_be_had_here": refused} if refused else {}),
    }  # fmt: skip
    written = _write(cfg, model, tokenizer, split) if cfg.stories else []
    if written:
        with computing_in(resolve_precision(cfg.precision), model.device.type):
            evaluation |= _judged(written, corpus.quality, judge)
        encoder = Encoder(tokenizer)
        evaluation |= text_findings([s["response"] for s in written], prepared, lambda texts: [t.ids for t in encoder(texts)])
    return evaluation, written


def _gains(mine: list[Story], theirs: list[Story], other: str) -> dict[str, Any]:
    """How much better than another policy it writes on the prompts that both have, to every judge there is."""
    common = {story["prompt"] for story in mine} & {story["prompt"] for story in theirs}
    told = {"quality": "true quality", SCORE: "the reward model's score"}
    return {
        f"{name}{OVER}{other}": vars(gain([_as_judged(mine, key, common)], [_as_judged(theirs, key, common)]))
        for key, name in told.items()
        if mine and key in mine[0]
    }


def _as_judged(stories: list[Story], key: str, prompts: set[str]) -> list[Judged]:
    return [
        Judged(prompt=story["prompt"], words=len(story["response"].split()), score=story[key])
        for story in stories
        if story["prompt"] in prompts
    ]


def _write(cfg: DictConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: PreparedSplit) -> list[Story]:
    """Stories on the held-out prompts in turn."""
    prompts = in_turn([pair.prompt for pair in split.pairs], cfg.stories)
    stories = sample(model, tokenizer, prompts, instantiate(cfg.sampling))
    return [{"prompt": prompt, "response": story} for prompt, story in zip(prompts, stories, strict=True)]


def _judged(written: list[Story], quality: Any, judge: RewardModelJudge | None) -> dict[str, Any]:
    """Mean scores; each story is told its own."""
    found: dict[str, Any] = {"stories": len(written)}
    scores: dict[str, list[float]] = {}
    if quality is not None:
        scores["quality"] = [quality(story["prompt"], story["response"]) for story in written]
    if judge is not None:
        scores[SCORE] = judge([(story["prompt"], story["response"]) for story in written]).tolist()
    for name, values in scores.items():
        found |= mean_score(name, [story["prompt"] for story in written], values)
        for story, value in zip(written, values, strict=True):
            story[name] = value
    return found


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

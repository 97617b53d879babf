"""`report=policy`: measures a policy on held-out threads, beside other policies if asked to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.corpus import Corpus
from rfr.data.pack.packing import BestFit
from rfr.data.prepare import PreparedSplit, Preprocess
from rfr.data.tokenise import Encoder, content_of
from rfr.errors import UserError
from rfr.evaluate.metrics import LIKELIHOOD, PromptRanking, likelihood_findings, rewards_of, text_findings
from rfr.evaluate.paired_gain import ScoredStory, paired_gain
from rfr.evaluate.quality import cycle_prompts, mean_score
from rfr.evaluate.reward_model_judge import RewardModelJudge
from rfr.generation.sampling import Sampling, sample
from rfr.model.load import load_policy
from rfr.model.positions import block_of
from rfr.model.reward_model import load_reward_model
from rfr.ranges import Block, Count, Whole
from rfr.report.evaluation_page import evaluation_page
from rfr.report.findings import SCORES, findings
from rfr.report.report_files import ABOUT, require_place, write_report
from rfr.reward.base import Reward
from rfr.runs.folder import CONFIG, load
from rfr.strategy.precision import computing_in, resolve_precision
from rfr.train.exactness import exact_attention
from rfr.train.settings import Precision
from rfr.utils.terminal import print_table, printable

REWARD_MODEL = "reward model"  # the name of its row in the ranking table
SHOWN_STORIES = 8
ONLY_FOR_THE_POLICY = ("model", "pair_accuracy", "baselines")  # not repeated for the policies beside it
Story = dict[str, Any]  # prompt, response and scores


@dataclass(frozen=True, kw_only=True)
class PolicyReport:
    """The report on a policy; see `conf/report/policy.yaml` and `conf/evaluate.yaml`."""

    weights: str | None
    block_size: Block | None
    against: list[str]
    judge: str | None
    corpus: Corpus
    preprocess: Preprocess
    rewards: Mapping[str, Reward]
    ranking: PromptRanking
    stories: Whole
    sampling: Sampling
    micro_batch: Count
    precision: Precision
    data_dir: str
    out: str | None
    wandb_project: str | None

    def run(self) -> None:
        """Leave `evaluation.json` and `report.html`, print tables and one JSON line.

        Raises:
            UserError: no policy is given, or the output folder holds another one's report.
        """
        if self.weights is None:
            raise UserError("no policy to evaluate: set model.weights to its folder, such as runs/<name>/model")
        out = Path(self.out or Path(self.weights).resolve().parent)
        about = self._about(self.weights, out)
        require_place(out, "evaluation.json", about)
        judge = self._load_judge() if self.judge else None
        evaluation, stories = self._evaluate(self.weights, judge)
        for weights in self.against:
            other, other_stories = self._evaluate(weights, judge)
            _put_beside(evaluation, stories, weights, other, other_stories)
        _print(evaluation)
        line = {key: value for key, value in evaluation.items() if key != "pair_accuracy"} | {"out": str(out)}
        print(json.dumps(line), flush=True)
        page = evaluation_page(evaluation, stories[:SHOWN_STORIES])
        report = json.dumps({ABOUT: about, **evaluation}, indent=2) + "\n"
        write_report(out, {"evaluation.json": report, "report.html": page})
        if self.wandb_project:
            from rfr.loggers.wandb_run import log_evaluation

            trained = (out / CONFIG).is_file()
            log_evaluation(out, evaluation, load(out).group if trained else None, self.wandb_project)

    def _about(self, weights: str, out: Path) -> dict[str, str]:
        """The subject of the report. A policy inside the folder gets a relative path, since a run may be moved."""
        path, folder = Path(weights).resolve(), out.resolve()
        return {"model": str(path.relative_to(folder) if path.is_relative_to(folder) else path), "corpus": self.corpus.name}

    def _load_judge(self) -> RewardModelJudge:
        assert self.judge is not None
        model, tokenizer = load_reward_model(self.judge, partial(exact_attention, data_dir=self.data_dir))
        return RewardModelJudge(model, tokenizer, self.micro_batch)

    def _evaluate(self, weights: str, judge: RewardModelJudge | None) -> tuple[dict[str, Any], list[Story]]:
        """The figures of a policy, and stories that it wrote."""
        remedy = "set packing=off" if isinstance(self.preprocess.packing, BestFit) else None
        model, tokenizer = load_policy(weights, partial(exact_attention, data_dir=self.data_dir, remedy=remedy))
        preprocess = replace(self.preprocess, block_size=self.block_size or block_of(model.config))
        with self.corpus.open() as store:
            cache = Path(self.data_dir) / "cache"
            prepared = preprocess.prepare(store, lambda _: tokenizer, [content_of(tokenizer)], cache)
        split = prepared.validation
        scores, unavailable = rewards_of(self.rewards, prepared)
        computing = partial(computing_in, resolve_precision(self.precision), model.device.type)
        with computing():
            if judge is not None:
                scores[REWARD_MODEL] = judge([(story.prompt, story.response) for story in split.stories])
            findings = likelihood_findings(model, split, self.micro_batch, self.ranking, scores)
        evaluation: dict[str, Any] = {
            "model": weights,
            "threads": len(split.threads),
            "held_out_stories": len(split.stories),
            **findings,
            **({"unavailable_rewards": unavailable} if unavailable else {}),
        }
        stories = self._write(model, tokenizer, split)
        if stories:
            with computing():
                evaluation |= self._score(stories, judge)
            encoder = Encoder(tokenizer)
            texts = [story["response"] for story in stories]
            evaluation |= text_findings(texts, prepared, lambda texts: [tokens.ids for tokens in encoder(texts)])
        return evaluation, stories

    def _write(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: PreparedSplit) -> list[Story]:
        """Stories on the held-out prompts in turn."""
        if not self.stories:
            return []
        prompts = cycle_prompts([story.prompt for story in split.stories], self.stories)
        stories = sample(model, tokenizer, prompts, self.sampling)
        return [{"prompt": prompt, "response": story} for prompt, story in zip(prompts, stories, strict=True)]

    def _score(self, stories: list[Story], judge: RewardModelJudge | None) -> dict[str, Any]:
        """Mean scores; each story gets its own scores."""
        texts, quality = [(story["prompt"], story["response"]) for story in stories], self.corpus.quality
        scores: dict[str, list[float]] = {}
        if quality is not None:
            scores["quality"] = [quality(prompt, response) for prompt, response in texts]
        if judge is not None:
            scores["reward_model_score"] = judge(texts).tolist()
        means: dict[str, Any] = {"stories": len(stories)}
        for key, values in scores.items():
            means |= mean_score(key, [prompt for prompt, _ in texts], values)
            for story, value in zip(stories, values, strict=True):
                story[key] = value
        return means


def _put_beside(
    evaluation: dict[str, Any], stories: list[Story], weights: str, other: dict[str, Any], other_stories: list[Story]
) -> None:
    """Add another policy's figures to an evaluation, and the gains over it."""
    figures = {key: value for key, value in other.items() if key not in ONLY_FOR_THE_POLICY}
    evaluation.setdefault("others", []).append({"model": weights, **figures})
    evaluation.setdefault("gains", []).extend(_gains(stories, other_stories, weights))
    evaluation["pair_accuracy"] += [
        {**row, "score": f"{row['score']} of {weights}"} for row in other["pair_accuracy"] if row["score"] == LIKELIHOOD
    ]


def _gains(stories: list[Story], other_stories: list[Story], other: str) -> list[dict[str, Any]]:
    """How much better the policy writes than another one on the prompts that both have, by every score there is."""
    common = {story["prompt"] for story in stories} & {story["prompt"] for story in other_stories}
    gains: list[dict[str, Any]] = []
    for key in SCORES:
        if stories and key in stories[0]:
            gain = paired_gain([_scored(stories, key, common)], [_scored(other_stories, key, common)])
            gains.append({"score": key, "over": other, **asdict(gain)})
    return gains


def _scored(stories: list[Story], key: str, prompts: set[str]) -> list[ScoredStory]:
    return [
        ScoredStory(prompt=story["prompt"], words=len(story["response"].split()), score=story[key])
        for story in stories
        if story["prompt"] in prompts
    ]


def _print(evaluation: dict[str, Any]) -> None:
    rows = evaluation["pair_accuracy"]
    for ratio in dict.fromkeys(row["ratio"] for row in rows):
        table: dict[str, dict[str, str]] = {}
        for row in (row for row in rows if row["ratio"] == ratio):
            shown = f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if row["pairs"] else "n/a"
            table.setdefault(row["score"], {"score": row["score"]})[row["condition"]] = shown
        print_table(list(table.values()), title=f"pair accuracy, one with {ratio} times the other's karma or more")
    for sentence in findings(evaluation):
        print(f"- {printable(sentence)}")

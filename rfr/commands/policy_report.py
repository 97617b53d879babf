"""`report=policy`: measures a policy on held-out threads, beside other policies if asked to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.corpus import Corpus
from rfr.data.pack.packing import BestFit
from rfr.data.prepare import EmptySplit, PreparedSplit, Preprocess
from rfr.data.tokenise import Encoder, content_of
from rfr.errors import UserError
from rfr.evaluate.judge_rules import Judge
from rfr.evaluate.judged_replies import judged_replies
from rfr.evaluate.metrics import LIKELIHOOD, PromptRanking, likelihood_findings, rewards_of, text_findings
from rfr.evaluate.paired_gain import ScoredStory, paired_gain
from rfr.evaluate.quality import cycle_prompts, mean_score
from rfr.evaluate.score import Score
from rfr.generation.sampling import Sampling, sample
from rfr.model.load import load_policy
from rfr.model.positions import block_of
from rfr.ranges import Block, Count, Whole
from rfr.report.evaluation_page import evaluation_page, summary_rows
from rfr.report.findings import SCORES, findings
from rfr.report.report_files import ABOUT, HEAD, head, report_folder, require_place, write_report
from rfr.reward.base import Reward
from rfr.runs.folder import CONFIG, load
from rfr.strategy.precision import computing_in, resolve_precision
from rfr.strategy.thread_count import set_threads
from rfr.train.exactness import exact_attention
from rfr.train.load_judge import load_judge
from rfr.train.settings import Precision
from rfr.utils.terminal import print_table, printable

SHOWN_STORIES = 8
ONLY_FOR_THE_POLICY = ("model", "pair_accuracy", "baselines", "judges")  # not repeated for the policies beside it
Story = dict[str, Any]  # prompt, response and scores


@dataclass(frozen=True, kw_only=True)
class _Evaluated:
    """A policy's figures, its log-likelihood per token of each held-out story by id, and the stories that it wrote."""

    figures: dict[str, Any]
    likelihoods: dict[str, float]
    stories: list[Story]


@dataclass(frozen=True, kw_only=True)
class PolicyReport:
    """The report on a policy; see `conf/report/policy.yaml` and `conf/evaluate.yaml`."""

    weights: str | None
    block_size: Block | None
    against: list[str]
    score: Score
    corpus: Corpus
    preprocess: Preprocess
    rewards: Mapping[str, Reward]
    ranking: PromptRanking
    stories: Whole
    sampling: Sampling
    micro_batch: Count
    threads: Count | None
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
        run_dir = Path(self.weights).resolve().parent
        out = Path(self.out) if self.out else report_folder(Path(self.weights).parent / "reports", self.corpus.name)
        about = self._about(self.weights, out)
        require_place(out, "evaluation.json", about)
        judge = self.score.load(partial(load_judge, data_dir=self.data_dir)) if self.score.given else None
        others = {weights: self._evaluate(weights, judge, {}) for weights in self.against}
        mine = self._evaluate(self.weights, judge, {name: other.likelihoods for name, other in others.items()})
        evaluation = mine.figures
        for weights, other in others.items():
            figures = {key: value for key, value in other.figures.items() if key not in ONLY_FOR_THE_POLICY}
            evaluation.setdefault("others", []).append({"model": weights, **figures})
            evaluation.setdefault("gains", []).extend(_gains(mine.stories, other.stories, weights))
        _print(evaluation)
        line = {key: value for key, value in evaluation.items() if key != "pair_accuracy"} | {"out": str(out)}
        print(json.dumps(line), flush=True)
        top = head(
            corpus=self.corpus.name,
            simulated=self.corpus.simulated,
            model=self.weights,
            **self._trained_with(run_dir),
            judge=self.score.name if self.score.given else None,
            sampling=self._sampling_in_words(),
        )
        page = evaluation_page(evaluation, [mine.stories, *(other.stories for other in others.values())], SHOWN_STORIES, top)
        report = json.dumps({ABOUT: about, HEAD: top, **evaluation}, indent=2) + "\n"
        write_report(out, {"evaluation.json": report, "report.html": page})
        if self.wandb_project:
            from rfr.loggers.wandb_run import log_evaluation

            trained = (run_dir / CONFIG).is_file()
            log_evaluation(out, run_dir.name, evaluation, load(run_dir).group if trained else None, self.wandb_project)

    def _about(self, weights: str, out: Path) -> dict[str, str]:
        """The subject of the report. A policy in the same run folder gets a relative path, since a run may be moved."""
        path, folder = Path(weights).resolve(), out.resolve()
        near = any(path.is_relative_to(parent) for parent in (folder, *folder.parents[:2]))
        return {"model": os.path.relpath(path, folder) if near else str(path), "corpus": self.corpus.name}

    def _sampling_in_words(self) -> str | None:
        """How the stories were drawn: quality depends on the temperature more than on anything else."""
        if not self.stories:
            return None
        drawn = self.sampling
        at = f"temperature {drawn.temperature:g}, top-p {drawn.top_p:g}, top-k {drawn.top_k or 'off'}"
        return f"{self.stories} stories, {at}, at most {drawn.max_new_tokens} tokens"

    @staticmethod
    def _trained_with(run_dir: Path) -> dict[str, str]:
        """The objective and the reward of the run that trained the policy, where there is one."""
        if not (run_dir / CONFIG).is_file():
            return {}
        cfg = load(run_dir)
        reward = str(cfg.reward._target_).rsplit(".", 1)[-1]
        return {"objective": cfg.objective.get("name"), **({} if cfg.objective.get("name") == "bc" else {"reward": reward})}

    def _evaluate(self, weights: str, judge: Judge | None, others: Mapping[str, Mapping[str, float]]) -> _Evaluated:
        """The figures of a policy, its likelihoods of held-out stories, and stories that it wrote.

        Args:
            others: likelihoods under other policies, by the stories' ids.
        """
        remedy = "set packing=off" if isinstance(self.preprocess.packing, BestFit) else None
        model, tokenizer = load_policy(weights, partial(exact_attention, data_dir=self.data_dir, remedy=remedy))
        set_threads(self.threads, model.num_parameters())
        preprocess = replace(self.preprocess, block_size=self.block_size or block_of(model.config))
        with self.corpus.open() as store:
            try:
                prepared = preprocess.prepare(store, lambda _: tokenizer, [content_of(tokenizer)], Path(self.data_dir) / "cache")
            except EmptySplit as empty:
                if empty.split != "validation":
                    raise
                print(empty, flush=True)
                return _Evaluated(figures=_nothing_held_out(weights), likelihoods={}, stories=[])
        split = prepared.validation
        ids = split.stories.column("reply_id").tolist()
        scores, unavailable = rewards_of(self.rewards, prepared)
        scores |= {f"{LIKELIHOOD} of {name}": np.array([of.get(reply, np.nan) for reply in ids]) for name, of in others.items()}
        seen: dict[str, Any] = {}
        computing = partial(computing_in, resolve_precision(self.precision), model.device.type)
        with computing():
            if judge is not None:
                self.score.require(split.stories.column("prompt").tolist())
                scores[self.score.label], seen["judges"] = judged_replies(judge, self.score.folders, split.stories)
            findings, of_stories = likelihood_findings(model, split, self.micro_batch, self.ranking, scores)
        evaluation: dict[str, Any] = {
            "model": weights,
            "threads": len(split.threads),
            "held_out_stories": len(split.stories),
            **findings,
            **({"unavailable_rewards": unavailable} if unavailable else {}),
            **seen,
        }
        stories = self._write(model, tokenizer, split)
        if stories:
            with computing():
                evaluation |= self._score(stories, judge)
            encoder = Encoder(tokenizer)
            texts = [story["response"] for story in stories]
            evaluation |= self._of_people([story["prompt"] for story in stories], split)
            evaluation |= text_findings(texts, prepared, lambda texts: [tokens.ids for tokens in encoder(texts)])
        return _Evaluated(figures=evaluation, likelihoods=dict(zip(ids, of_stories.tolist(), strict=True)), stories=stories)

    def _write(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: PreparedSplit) -> list[Story]:
        """Stories on the held-out prompts in turn."""
        if not self.stories:
            return []
        prompts = cycle_prompts([story.prompt for story in split.stories], self.stories)
        stories = sample(model, tokenizer, prompts, self.sampling)
        return [{"prompt": story.prompt, "response": story.text, "stop": story.stop} for story in stories]

    def _score(self, stories: list[Story], judge: Judge | None) -> dict[str, Any]:
        """Mean scores; each story gets its own scores."""
        texts, quality = [(story["prompt"], story["response"]) for story in stories], self.corpus.quality
        scores: dict[str, list[float]] = {}
        if quality is not None:
            scores["quality"] = [quality(prompt, response) for prompt, response in texts]
        if judge is not None:
            scores[self.score.key] = judge(texts).tolist()
        means: dict[str, Any] = {"stories": len(stories)}
        for key, values in scores.items():
            means |= mean_score(key, [prompt for prompt, _ in texts], values)
            for story, value in zip(stories, values, strict=True):
                story[key] = value
        return means

    def _of_people(self, prompts: list[str], split: PreparedSplit) -> dict[str, Any]:
        """The true quality of what people wrote on the same prompts, where it is known."""
        if self.corpus.quality is None:
            return {}
        asked = set(prompts)
        people = [(story.prompt, story.response) for story in split.stories if story.prompt in asked]
        return mean_score("quality_of_people", [prompt for prompt, _ in people], [self.corpus.quality(*told) for told in people])


def _nothing_held_out(weights: str) -> dict[str, Any]:
    """The figures where no thread is held out."""
    return {"model": weights, "threads": 0, "held_out_stories": 0, "pair_accuracy": [], "baselines": []}


def _gains(stories: list[Story], other_stories: list[Story], other: str) -> list[dict[str, Any]]:
    """How much better the policy writes than another one on the prompts that both have, by every score there is."""
    common = {story["prompt"] for story in stories} & {story["prompt"] for story in other_stories}
    if not common:
        return []
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
    for ratio, rows in summary_rows(evaluation):
        print_table(rows, title=f"pair accuracy, one with {ratio} times the other's karma or more")
    for sentence in findings(evaluation):
        print(f"- {printable(sentence)}")

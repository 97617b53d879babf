"""The generate command: loads a trained policy and writes stories, or the best of several by a judge."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.collect.progress import Progress
from rfr.config import check_types, plain, resolve
from rfr.data.clean.titles import canonical_prompt
from rfr.data.tokenise import content_of, prompt_tokens
from rfr.errors import Interrupted, UserError
from rfr.evaluate.judge_rules import Judge
from rfr.evaluate.score import Score
from rfr.generation.prompt_file import Prompt, read_prompts
from rfr.generation.sampling import SampledStory, Sampling, stories_as_they_end
from rfr.generation.story_file import StoryFile
from rfr.model.load import load_policy
from rfr.model.positions import block_of, positions_of
from rfr.ranges import Block, Count, Seed
from rfr.strategy.precision import DTYPE, resolve_precision
from rfr.train.exactness import exact_attention
from rfr.train.load_judge import load_judge
from rfr.train.settings import Precision
from rfr.utils.quiet import silence_libraries
from rfr.utils.typecheck import Called

HELD_OUT = "corpus"  # prompts= of a corpus's held-out threads
Asked = tuple[str, int]  # a prompt and a story's number on it


class GivenModel(TypedDict, total=False):
    """The policy that is loaded."""

    weights: str
    block_size: Block | None


class GenerateConfig(TypedDict):
    """`conf/generate.yaml`."""

    data_dir: str
    runs_dir: str
    prompts: str | None
    stories: Count
    out: str | None
    best_of: Count
    judge: str | list[str] | None
    seed: Seed
    threads: Count | None
    precision: Precision
    model: GivenModel
    sampling: Called
    corpus: Called
    preprocess: Called
    judge_rule: Called
    score: Called


def generate(cfg: DictConfig, prompts: list[str]) -> None:
    """Print or write one JSON line per story: prompt, number, response, how it ended, log-probabilities, settings.

    Raises:
        UserError: no model at the path, no prompt, an empty one, or one longer than the model's block.
    """
    cfg, sampling, score = checked(cfg)
    silence_libraries()
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    given = [Prompt(text=prompt, place="prompt=...") for prompt in prompts]
    if (not given and not cfg.prompts) or not all(prompt.text.strip() for prompt in given):
        raise UserError('no prompt: give prompt="[WP] ...", or prompts= with a file')
    if cfg.prompts and cfg.prompts != HELD_OUT:
        given += read_prompts(cfg.prompts)
    file = StoryFile(Path(cfg.out) if cfg.out else None, _settings(cfg))
    judge = score.load(partial(load_judge, data_dir=cfg.data_dir)) if cfg.best_of > 1 else None
    model, tokenizer = load_policy(cfg.model.weights, partial(exact_attention, data_dir=cfg.data_dir))
    model.to(DTYPE[resolve_precision(cfg.precision)])  # type: ignore[arg-type]
    if cfg.prompts == HELD_OUT:
        given += _held_out(cfg, model, tokenizer)
    _require_room(model, tokenizer, given, sampling)
    groups = _numbered([canonical_prompt(prompt.text) for prompt in given], cfg.stories)
    if judge is not None:
        score.require([prompt for prompt, _ in groups])
    sampling = replace(sampling, slots=min(sampling.slots, len(groups) * cfg.best_of))  # the same when it is gone on with
    draw = partial(stories_as_they_end, model, tokenizer, sampling=sampling)
    _write([group for group in groups if group not in file.done], file, draw, cfg, judge)


def checked(cfg: DictConfig) -> tuple[DictConfig, Sampling, Score]:
    """The config, resolved, with every value checked; how to sample, and the score by which the best is chosen.

    Raises:
        UserError: a value is wrong.
    """
    cfg = check_types(resolve(cfg), GenerateConfig)
    score: Score = instantiate(cfg.score)
    if cfg.best_of > 1 and not score.given:
        raise UserError(f"best_of={cfg.best_of} needs a judge: judge=runs/<name>/model of objective=reward_model")
    if score.given and cfg.best_of == 1:
        raise UserError("a judge chooses the best of several stories: set best_of=16, say, or leave out judge= (score.judge)")
    return cfg, instantiate(cfg.sampling), score


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """The settings that decide a story, next to its prompt and number."""
    sampling = {name: value for name, value in plain(cfg.sampling).items() if name != "_target_"}
    chosen = {"best_of": cfg.best_of, "score": plain(cfg.score)} if cfg.best_of > 1 else {}
    machine = {"precision": resolve_precision(cfg.precision), "threads": torch.get_num_threads()}
    return {"weights": cfg.model.weights, **machine, **sampling, **chosen}


def _held_out(cfg: DictConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """The prompts of the corpus's held-out threads, each once."""
    corpus, preprocess = instantiate(cfg.corpus), instantiate(cfg.preprocess)
    with corpus.open() as store:
        preprocess = replace(preprocess, block_size=cfg.model.block_size or block_of(model.config))
        prepared = preprocess.prepare(store, lambda _: tokenizer, [content_of(tokenizer)], Path(cfg.data_dir) / "cache")
    prompts = dict.fromkeys(story.prompt for story in prepared.validation.stories)
    return [Prompt(text=prompt, place=f"{corpus.name}, {prompt[:40]!r}") for prompt in prompts]


def _require_room(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: SequenceOf[Prompt], sampling: Sampling
) -> None:  # fmt: skip
    """Raises UserError where a prompt leaves no room for a story; it is named by its place."""
    block = positions_of(model.config) or block_of(model.config)
    for prompt in prompts:
        tokens = len(prompt_tokens(tokenizer, canonical_prompt(prompt.text), sampling.quantile))
        if tokens >= block:
            raise UserError(f"{prompt.place}: the prompt has {tokens} tokens, the model's block {block}: shorten the prompt")


def _numbered(prompts: SequenceOf[str], stories: int) -> list[Asked]:
    """So many stories of each prompt; a prompt that is given twice gets twice as many."""
    seen, asked = Counter[str](), []
    for prompt in prompts:
        asked += [(prompt, seen[prompt] + number) for number in range(stories)]
        seen[prompt] += stories
    return asked


def _write(groups: SequenceOf[Asked], file: StoryFile, draw: Any, cfg: DictConfig, judge: Judge | None) -> None:
    """Draw `best_of` stories for each group and write the best one as soon as all are there."""
    asked = [(prompt, number * cfg.best_of + one) for prompt, number in groups for one in range(cfg.best_of)]
    there: dict[int, list[SampledStory]] = defaultdict(list)
    began, tokens = time.monotonic(), 0
    try:
        with Progress(Console(stderr=True)) as show:
            for done, (index, story) in enumerate(draw(asked), start=1):
                group = there[index // cfg.best_of]
                group.append(story)
                tokens += len(story.ids)
                if len(group) == cfg.best_of:
                    file.add(_row(groups[index // cfg.best_of], there.pop(index // cfg.best_of), judge))
                    speed = round(tokens / (time.monotonic() - began))
                    show("stories", done // cfg.best_of, len(groups), tokens_a_second=speed)
    except KeyboardInterrupt as stop:
        hint = (
            "the same command goes on where it stopped" if cfg.out else "with out=stories.jsonl the command can be gone on with"
        )
        raise Interrupted(f"interrupted; finished stories are written: {hint}") from stop
    if cfg.out:
        print(
            json.dumps({"out": cfg.out, "stories": len(file.done) + len(groups), "drawn": len(asked), "tokens": tokens}),
            flush=True,
        )


def _row(group: Asked, stories: list[SampledStory], judge: Judge | None) -> dict[str, Any]:
    prompt, number = group
    stories = sorted(stories, key=lambda story: story.number)
    scores = None if judge is None else judge([(prompt, story.text) for story in stories]).tolist()
    story = stories[0] if scores is None else stories[scores.index(max(scores))]
    row = {
        "prompt": prompt,
        "number": number,
        "response": story.text,
        "stop": story.stop,
        "tokens": len(story.ids),
        "logprob": round(float(story.logprobs.sum()), 4),
        "drawn_logprob": round(float(story.drawn_logprobs.sum()), 4),
    }
    return row if scores is None else {**row, "score": max(scores), "scores": scores}

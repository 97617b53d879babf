"""Has a policy write stories, and finds out all that is to be known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.pack.rows import PackedRows
from rfr.data.tokenise import prompt_tokens
from rfr.evaluate.judge_rules import Judge
from rfr.evaluate.perplexity import story_nll
from rfr.evaluate.policy_divergence import divergence
from rfr.evaluate.reward_model_judge import RewardModelJudge
from rfr.generation.sampling import SampledStory, Sampling, stories_as_they_end
from rfr.rollouts.round_stories import RoundStories, story_rows

Computing = Callable[[], AbstractContextManager[Any]]  # the training's precision, of products of fp32 parameters
Text = tuple[str, str]  # prompt and story
READ_AT_ONCE = 16  # stories, where log-probabilities are taken in the training's precision


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Those that score stories.

    Args:
        score: the one that the policy is trained against.
        each: of several by a rule, each alone, by its folder.
        watch: the one that the training does not see; None: nobody watches.
        models: the reward models of all of them.
        quality: the true quality; None: nobody knows it.
    """

    score: Judge
    each: Mapping[str, Judge]
    watch: Judge | None
    models: SequenceOf[RewardModelJudge]
    quality: Callable[[str, str], float] | None


@dataclass(frozen=True, kw_only=True)
class Share:
    """This rank's share of the work, and how all ranks come to know the whole.

    Args:
        gather: the lists of all ranks, in their order, from each rank's own.
    """

    rank: int = 0
    ranks: int = 1
    gather: Callable[[list[Any]], list[list[Any]]] = lambda own: [own]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy that writes, and whose stories are read again. All are the same model where its parameters are whole and fp32.

    Args:
        reads: in fp32.
        trains: as the training reads them.
        computing: None: it is in fp32.
    """

    writes: PreTrainedModel
    reads: PreTrainedModel
    trains: PreTrainedModel
    computing: Computing | None


class StoryWriter:
    """Writes stories on prompts, shared out over the ranks.

    Args:
        start: the policy that training began with, in fp32.
        block: of rows.
        offload: start policy and judges lie in main memory while they are not used.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        start: PreTrainedModel,
        judges: Judges,
        block: int,
        *,
        offload: bool = False,
    ) -> None:
        self._tokenizer, self._sampling, self._start, self._judges = tokenizer, sampling, start, judges
        self._block, self._offload = block, offload

    def __call__(
        self, policy: Policy, prompts: SequenceOf[str], first: int, stories: int, share: Share, best_of: int = 1
    ) -> RoundStories:
        """So many stories on each prompt.

        Args:
            first: the number of the first story on a prompt; with the seed and the prompt, numbers decide the random numbers.
            best_of: stories that are written for each, of which the score chooses one.
        """
        places = [(place, k) for place in range(share.rank, len(prompts), share.ranks) for k in range(stories)]
        own = self._write(policy, [(prompts[place], first + k) for place, k in places], best_of)
        gathered = share.gather([{"place": place, **row} for place, row in zip(places, own, strict=True)])
        rows = sorted((row for of_rank in gathered for row in of_rank), key=lambda row: row["place"])
        return _columns(rows)

    def _write(self, policy: Policy, asked: SequenceOf[tuple[str, int]], best_of: int) -> list[dict[str, Any]]:
        """A row per story, in the order in which they are asked for."""
        if not asked:
            return []
        stories = self._draw(policy, [(prompt, number * best_of + one) for prompt, number in asked for one in range(best_of)])
        if best_of > 1:
            scores = self._scored(_texts(stories), policy.reads.device, {"score": self._judges.score})["score"]
            best = scores.reshape(-1, best_of).argmax(1) + best_of * np.arange(len(asked))
            stories = [stories[index] for index in best]
        rows = [self._row(story) for story in stories]
        for column in (self._log_probabilities(policy, rows), self.score(_texts(stories), policy.reads.device)):
            for name, values in column.items():
                for row, value in zip(rows, values.tolist(), strict=True):
                    row[name] = value
        return rows

    def _draw(self, policy: Policy, asked: SequenceOf[tuple[str, int]]) -> list[SampledStory]:
        sampling = replace(self._sampling, slots=min(self._sampling.slots, len(asked)))
        written = dict(stories_as_they_end(policy.writes, self._tokenizer, asked, sampling))
        return [written[index] for index in range(len(asked))]

    def _row(self, story: SampledStory) -> dict[str, Any]:
        return {
            "prompts": story.prompt,
            "texts": story.text,
            "numbers": story.number,
            "prompt_ids": np.array(prompt_tokens(self._tokenizer, story.prompt, self._sampling.quantile), np.int32),
            "ids": story.ids,
            "logprobs": story.logprobs,
            "ended": story.stop == "end",
        }

    def _log_probabilities(self, policy: Policy, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        ended = np.array([row["ended"] for row in rows])
        ids = [row["ids"][: len(row["ids"]) - row["ended"]] for row in rows]
        packed = story_rows([row["prompt_ids"] for row in rows], ids, ~ended, self._block, int(self._tokenizer.eos_token_id))
        with self._on(policy.reads.device, [self._start]), _evaluating(policy.reads), _evaluating(policy.trains):
            found = vars(divergence(policy.reads, self._start, packed))
            if policy.computing is None:
                return {**found, "drawn_logprob": found["policy_logprob"], "reference_logprob": found["start_logprob"]}
            reference = self.reference_logprobs(packed, policy.reads.device, policy.computing)
            with policy.computing() if policy.trains.dtype == torch.float32 else nullcontext():
                drawn, _ = story_nll(policy.trains, packed, READ_AT_ONCE)
        return {**found, "drawn_logprob": -drawn, "reference_logprob": reference}

    def reference_logprobs(self, rows: PackedRows, device: torch.device, computing: Computing | None) -> np.ndarray:
        """The log-probability of each story under the start policy, as the training would find it; float64."""
        with self._on(device, [self._start]), nullcontext() if computing is None else computing():
            nll, _ = story_nll(self._start, rows, READ_AT_ONCE)
        return -nll

    def score(self, texts: SequenceOf[Text], device: torch.device) -> dict[str, np.ndarray]:
        """The scores of stories by all who score them, float64 of shape (stories,), NaN where nobody does."""
        judges, unknown = self._judges, np.full(len(texts), np.nan)
        asked = {"score": judges.score, **({} if judges.watch is None else {"watch": judges.watch})}
        asked |= {f"by_judge {name}": alone for name, alone in judges.each.items()}
        quality = judges.quality
        truth = unknown if quality is None else np.array([quality(prompt, text) for prompt, text in texts])
        return {"watch": unknown, **self._scored(texts, device, asked), "quality": truth}

    def _scored(self, texts: SequenceOf[Text], device: torch.device, judges: Mapping[str, Judge]) -> dict[str, np.ndarray]:
        models = self._judges.models
        for judge in models:
            judge.forget()  # so that what is read together does not depend on what was read before
        with self._on(device, [judge.model for judge in models]):
            return {name: judge(texts) for name, judge in judges.items()}

    @contextmanager
    def _on(self, device: torch.device, models: SequenceOf[PreTrainedModel]) -> Iterator[None]:
        """The models are on the device inside; outside too, where they are not offloaded."""
        for model in models:
            model.to(device)  # type: ignore[arg-type]
        yield
        for model in models if self._offload else ():
            model.to(torch.device("cpu"))  # type: ignore[arg-type]


def _texts(stories: SequenceOf[SampledStory]) -> list[Text]:
    return [(story.prompt, story.text) for story in stories]


def _columns(rows: list[dict[str, Any]]) -> RoundStories:
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0] if name != "place"}
    lists = ("prompts", "texts", "prompt_ids", "ids", "logprobs")
    arrays: dict[str, Any] = {name: values if name in lists else np.array(values) for name, values in columns.items()}
    of_judges = {name.removeprefix("by_judge "): arrays.pop(name) for name in list(arrays) if name.startswith("by_judge ")}
    return RoundStories(**arrays, by_judge=of_judges, reward=arrays["score"], weight=np.zeros(len(rows)))


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    yield
    model.train(was_training)

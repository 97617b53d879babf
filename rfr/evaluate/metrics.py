"""All measures of one policy on held-out threads, put together from this room's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from rfr.data.prepare import Prepared, PreparedSplit
from rfr.errors import UserError
from rfr.evaluate.diversity import diversity, longest_copies
from rfr.evaluate.pair_accuracy import accuracies
from rfr.evaluate.perplexity import nll_by_karma, perplexity, story_nll
from rfr.evaluate.prompt_ranking import among_other_prompts, own_prompt_first, without_prompts
from rfr.ranges import Seed, Several, Whole
from rfr.reward.base import ReplyThread, rewards_by_thread
from rfr.reward.confounders import words

LENGTH, TIME, PROMPT_FREE = "length alone", "earlier alone", "log-likelihood without the prompt"  # what any score has to beat
LIKELIHOOD = "log-likelihood"


@dataclass(frozen=True, kw_only=True)
class PromptRanking:
    """How the own prompt is told from others': `stories` held-out ones, spread evenly, each among `candidates` prompts, or as
    many as there are threads.

    Raises:
        UserError: fewer than 2 candidates.
    """

    stories: Whole = 100
    candidates: Several = 10
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise UserError(f"ranking.candidates must be 2 or more, not {self.candidates}")


def likelihood_findings(
    model: PreTrainedModel, split: PreparedSplit, micro_batch: int, ranking: PromptRanking, others: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], np.ndarray]:
    """Perplexity, pair accuracy beside its baselines, and prompt ranking; and each story's log-likelihood per token.

    Args:
        others: other scores that rank stories: by name, one value per story of the split, NaN where there is none.
    """
    stories, ranked = list(split.stories), ranking.stories and len(split.threads) > 1
    nll_sums, tokens = story_nll(model, split.rows, micro_batch)
    without, _ = story_nll(model, without_prompts(split.rows), micro_batch)
    scores = {
        LIKELIHOOD: -nll_sums / tokens,
        PROMPT_FREE: -without / tokens,
        LENGTH: words(stories),
        TIME: np.array([np.nan if story.delay_s is None else -story.delay_s for story in stories]),
        **others,
    }
    figures = {
        **perplexity(nll_sums, tokens, stories),
        "nll_by_karma": nll_by_karma(nll_sums, tokens, split.threads),
        "pair_accuracy": accuracies(stories, scores, reference=LIKELIHOOD),
        "baselines": [PROMPT_FREE, LENGTH, TIME],
        **({"prompt_ranking": _prompt_ranking(model, split, micro_batch, ranking)} if ranked else {}),
    }
    return figures, scores[LIKELIHOOD]


def _prompt_ranking(model: PreTrainedModel, split: PreparedSplit, micro_batch: int, ranking: PromptRanking) -> dict[str, Any]:
    threads = np.unique(split.stories.column("thread_id"), return_inverse=True)[1]
    chosen = np.unique(np.linspace(0, len(threads) - 1, min(ranking.stories, len(threads))).astype(np.int64))
    candidates = min(ranking.candidates, int(threads.max()) + 1)
    rows = among_other_prompts(split.rows, chosen, threads, candidates, ranking.seed)
    nll_sums, _ = story_nll(model, rows, micro_batch)
    return {**own_prompt_first(nll_sums, threads[chosen], candidates), "candidates": candidates}


def text_findings(
    stories: SequenceOf[str], prepared: Prepared, encode: Callable[[list[str]], list[np.ndarray]]
) -> dict[str, Any]:
    """Diversity of written stories, and how long the stretches are that stand in the training stories; people's beside it.

    Args:
        encode: texts to token ids.
    """
    people = [story.response for story in prepared.validation.stories[: len(stories)]]
    return {
        "diversity": diversity(stories),
        "diversity_of_people": diversity(people),
        "copying": _copying(stories, prepared, encode),
        "copying_of_people": _copying(people, prepared, encode),
    }


def _copying(stories: SequenceOf[str], prepared: Prepared, encode: Callable[[list[str]], list[np.ndarray]]) -> dict[str, float]:
    encoded = encode(list(stories))
    copied = longest_copies(encoded, np.asarray(prepared.train.rows.tokens))
    lengths = np.array([max(1, len(story)) for story in encoded])
    return {
        "longest_median_tokens": float(np.median(copied)),
        "longest_tokens": float(copied.max()),
        "share_of_story_median": float(np.median(copied / lengths)),
    }


def rewards_of(rewards: Mapping[str, Any], prepared: Prepared) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Each reward, fitted on the training threads, of the held-out stories; and why some have none."""
    fitted, refused = fitted_rewards(rewards, prepared.train.threads, prepared.validation.threads)
    return {f"reward {name}": np.concatenate(values) for name, values in fitted.items()}, refused


def fitted_rewards(
    rewards: Mapping[str, Any], train: SequenceOf[ReplyThread], threads: SequenceOf[ReplyThread]
) -> tuple[dict[str, list[np.ndarray]], dict[str, str]]:
    """Each reward, fitted on some threads, of others; and why some have none."""
    fitted, refused = {}, {}
    for name, reward in rewards.items():
        try:
            reward.fit(train)
            fitted[name] = list(rewards_by_thread(reward, threads))
        except UserError as reason:  # any other error is a fault, not something that the corpus lacks
            refused[name] = str(reason)
    return fitted, refused

"""How a policy does that learns from its own stories: the figures of a round, for logs and pages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rfr.evaluate.diversity import MOST_COMPARED, diversity, longest_copies
from rfr.evaluate.within_prompts import correlation, log_words, mean_error, slope, spread
from rfr.rollouts.round_stories import RoundStories


def round_health(stories: RoundStories, corpus: np.ndarray, *, draws_the_policy: bool) -> dict[str, float]:
    """Figures of stories that one policy wrote; `_error` is the standard error of a mean, clustered over prompts.

    `kl` is KL(policy || start) in nats a story, of stories cut off that of their beginnings; `kl_k1` estimates the same by the
    stories' log-probabilities. Both are only known of stories drawn from the policy as it is.

    Args:
        corpus: token ids of the training stories, one after the other.
    """
    prompts, lengths = stories.prompts, stories.lengths
    figures = {
        **_mean("score", stories.score, prompts),
        "score_spread": spread(stories.score, prompts),
        "score_length_slope": slope(stories.score, log_words(stories.texts), prompts),
        "entropy_per_token": float(stories.entropy.sum() / (lengths + stories.ended).sum()),
        "length": float(lengths.mean()),
        "cut_off": float((~stories.ended).mean()),
        **diversity([stories.texts[index] for index in np.argsort(stories.numbers, kind="stable")]),  # each prompt's first
        "copied_tokens": _copied(stories, corpus),
    }
    if draws_the_policy:
        figures |= _mean("kl", stories.kl, prompts) | _mean("kl_k1", stories.policy_logprob - stories.start_logprob, prompts)
    if len(stories.by_judge) > 1:
        by_judge = np.stack(list(stories.by_judge.values()))
        figures["disagreement"] = float((by_judge - by_judge.mean(axis=1, keepdims=True)).std(axis=0).mean())
    if not np.isnan(stories.watch).any():
        figures |= _mean("watch", stories.watch, prompts)
    if not np.isnan(stories.quality).any():
        figures |= _mean("quality", stories.quality, prompts)
        figures["truth_correlation"] = correlation(stories.score, stories.quality, prompts)
    return figures


def _mean(name: str, values: np.ndarray, prompts: list[str]) -> dict[str, float]:
    return {name: float(values.mean()), f"{name}_error": mean_error(values, prompts)}


def _copied(stories: RoundStories, corpus: np.ndarray) -> float:
    """The median of the longest stretches that the stories have in common with the training stories; of 64 at most."""
    chosen = np.linspace(0, len(stories) - 1, min(MOST_COMPARED, len(stories))).astype(int)
    ids = [stories.ids[index][: stories.lengths[index]] for index in chosen]
    return float(np.median(longest_copies(ids, corpus)))


def round_line(figures: Mapping[str, float]) -> str:
    """The most important figures, for people."""
    told = [
        f"score {figures['score']:.3f} (spread {figures['score_spread']:.3f})",
        f"{figures['length']:.0f} tokens",
        f"{figures['cut_off']:.0%} cut off",
    ]
    more = {
        "kl": "KL {:.2f} nats a story",
        "watch": "watch judge {:.3f}",
        "quality": "true quality {:.3f}",
        "ess_within_prompts": "ESS {:.2f}",
    }
    return ", ".join([*told, *(words.format(figures[name]) for name, words in more.items() if name in figures)])

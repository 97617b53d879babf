"""The figures of a chain of policies: what each writes, how much better than the one that they began with, and round by round."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rfr.evaluate.diversity import distinct_share
from rfr.evaluate.paired_gain import ScoredStory, paired_gain
from rfr.evaluate.quality import mean_score
from rfr.evaluate.within_prompts import mean_error
from rfr.rollouts.round_stories import RoundStories, load_round

MEASURES = ("quality", "watch", "score")  # what a policy is judged by, the most trustworthy first


def chain_figures(stories: RoundStories, *, draws_the_policy: bool) -> dict[str, Any]:
    """Figures of what one policy wrote; those in `MEASURES` have 95 % intervals over prompts.

    Args:
        draws_the_policy: whether the stories are draws from the policy itself, so that `kl`, its divergence from the start in
            nats a story, is known.
    """
    figures: dict[str, Any] = {"stories": len(stories)}
    for measure in MEASURES:
        values = getattr(stories, measure)
        if not np.isnan(values).any():
            figures |= mean_score(measure, stories.prompts, values.tolist())
    figures |= {
        "length": round(float(stories.lengths.mean()), 2),
        "cut_off": round(float((~stories.ended).mean()), 4),
        "distinct_3": round(distinct_share(stories.texts, 3), 4),
    }
    if draws_the_policy:
        error = mean_error(stories.kl, stories.prompts)
        figures |= {"kl": round(float(stories.kl.mean()), 3), "kl_error": round(error, 3)}
    return figures


def gain_over(start: RoundStories, stories: RoundStories) -> dict[str, dict[str, Any]]:
    """How much better than the start policy's stories on the same prompts, by every measure there is; none of its own."""
    if stories is start:
        return {}
    return {
        f"{measure}_gain": asdict(paired_gain([scored_stories(stories, measure)], [scored_stories(start, measure)]))
        for measure in MEASURES
        if not np.isnan(getattr(stories, measure)).any()
    }


def scored_stories(stories: RoundStories, measure: str) -> list[ScoredStory]:
    """One of `MEASURES` of each story."""
    scores = getattr(stories, measure).tolist()
    return [
        ScoredStory(prompt=prompt, words=len(text.split()), score=score)
        for prompt, text, score in zip(stories.prompts, stories.texts, scores, strict=True)
    ]


def held_out_rounds(folder: Path, *, draws_the_policy: bool) -> list[dict[str, Any]]:
    """Of a run with rounds, the figures of what it wrote on held-out prompts before the first and after each.

    Raises:
        UserError: a file is damaged.
    """
    paths = sorted(folder.glob("held-out-*.parquet"))
    figures = [chain_figures(load_round(path), draws_the_policy=draws_the_policy) for path in paths]
    return [{"run": str(folder.parent), "round": number, **of_round} for number, of_round in enumerate(figures)]

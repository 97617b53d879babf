"""Subreddits with causes of karma drawn at random: which reward is the best there, and which one the report advises."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.lib.reward_recovery import threads_of
from rfr.data.clean.cleaner import Clean, KeepingNotes
from rfr.data.replies import scored_stories
from rfr.demo.grammar import true_quality
from rfr.demo.subreddit import DemoSubreddit, KarmaModel, TextTraps
from rfr.evaluate.correlation import within_threads
from rfr.evaluate.metrics import fitted_rewards
from rfr.evaluate.recommendation import recommend
from rfr.evaluate.text_correlation import text_correlation
from rfr.reward.adjusted import AdjustedRank
from rfr.reward.base import Reward
from rfr.reward.quantile import Tiers
from rfr.reward.residual import Residual
from rfr.reward.thread import ThreadRank

SETTINGS, SEED = 50, 26
# The causes of karma, each drawn evenly from its range; `log` ranges evenly on a logarithmic scale. Written before any result
# was seen.
KARMA: dict[str, tuple[float, float]] = {
    "herding": (0.0, 1.0), "noise": (0.3, 2.5), "popularity_log_mean": (7.0, 11.0), "popularity_log_sd": (0.2, 1.0),
    "delay_log_mean": (-0.5, 2.0), "delay_log_sd": (0.3, 1.2), "thread_size_log_mean": (1.6, 3.0), "length_bias": (0.0, 0.5),
}  # fmt: skip
LOG_DOWNVOTES, LOG_THREADS = (0.0005, 0.05), (40, 1000)
TRAP_SHARE = 0.5  # of the settings have a trap set, evenly from 0 to 1; each of the two by itself
TRUTH_SUBREDDITS, TRUTH_THREADS = 5, 2000
ADVICE_SEED, TRUTH_SEED = 1_000, 2_000  # of the subreddits
MANY_THREADS = 240
FEW_THREADS = 50  # below, the rule that rfr followed before named adjusted_rank, from then on residual


def candidates() -> dict[str, Reward]:
    """The rewards that order threads differently; all others order them as one of these."""
    return {"thread_rank": ThreadRank(), "adjusted_rank": AdjustedRank(), "tiers": Tiers(AdjustedRank()), "residual": Residual()}


def drawn_settings(count: int = SETTINGS, seed: int = SEED) -> list[dict[str, Any]]:
    """`threads`, `karma` and `text` of each setting."""
    generator = np.random.default_rng(seed)
    settings = []
    for _ in range(count):
        karma = {name: float(generator.uniform(*ends)) for name, ends in KARMA.items()}
        karma["downvotes"] = float(np.exp(generator.uniform(*np.log(LOG_DOWNVOTES))))
        threads = round(float(np.exp(generator.uniform(*np.log(LOG_THREADS)))))
        hurry, thanks = np.where(generator.random(2) < TRAP_SHARE, generator.random(2), 0.0)
        settings.append({"threads": threads, "karma": karma, "text": {"hurry": float(hurry), "thanks": float(thanks)}})
    return settings


def recovered_by(setting: dict[str, Any], subreddit: int) -> dict[str, float]:
    """By each reward, its correlation with the true quality within threads of one large subreddit. Notes of thanks are left
    out: they change neither the karma nor the story.
    """
    karma, text = KarmaModel(**setting["karma"]), TextTraps(hurry=setting["text"]["hurry"])
    subreddit_of = DemoSubreddit(threads=TRUTH_THREADS, seed=TRUTH_SEED + subreddit, karma=karma, text=text)
    scored = ([story for story in thread if story.score is not None] for thread in threads_of(subreddit_of))
    threads = [thread for thread in scored if thread]
    quality = [np.array([true_quality(story.prompt, story.response) for story in thread]) for thread in threads]
    rewards, _ = fitted_rewards(candidates(), threads, threads)
    return {name: float(within_threads(values, quality).mean()) for name, values in rewards.items()}


def advised_in(setting: dict[str, Any]) -> dict[str, Any]:
    """The report's measurement and its advice on one subreddit of the setting's size."""
    karma, text = KarmaModel(**setting["karma"]), TextTraps(**setting["text"])
    clean = KeepingNotes(Clean(min_words=20))
    threads = scored_stories(DemoSubreddit(threads=setting["threads"], seed=ADVICE_SEED, karma=karma, text=text), clean)
    rewards, _ = fitted_rewards(candidates(), threads, threads)
    measured = text_correlation(threads, rewards, [[clean.uncut(story) for story in thread] for thread in threads])
    return {"reward": recommend(measured).reward, "measured": None if measured is None else measured.figures()}

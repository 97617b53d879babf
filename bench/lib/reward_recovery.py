"""How much of the true quality each reward recovers, on the demo subreddit, where it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench.lib.report import Figure
from rfr.data.replies import thread_stories
from rfr.demo.grammar import true_quality
from rfr.demo.oracle import OracleResidual
from rfr.demo.subreddit import DemoSubreddit, KarmaModel
from rfr.evaluate.correlation import over_all, within_threads
from rfr.records import Story
from rfr.reward.adjusted import AdjustedRank
from rfr.reward.base import ReplyThread, rewards_by_thread
from rfr.reward.karma import Karma
from rfr.reward.quantile import Tiers
from rfr.reward.residual import Residual
from rfr.reward.thread import ThreadRank, ThreadZscore

REWARDS: dict[str, Callable[[], Any]] = {
    "karma": Karma, "thread_rank": ThreadRank, "thread_zscore": ThreadZscore, "adjusted_rank": AdjustedRank,
    "tiers": lambda: Tiers(AdjustedRank()), "residual": Residual,
}  # fmt: skip
SWEPT_THREADS = 240
SWEPT: dict[str, tuple[float, ...]] = {
    "herding": (0.0, 0.25, 0.5, 0.75, 1.0), "noise": (0.0, 0.5, 1.0, 2.0, 4.0), "popularity_log_sd": (0.0, 0.4, 1.0, 2.0),
}  # fmt: skip
SHOWN = ("karma", "adjusted_rank", "residual", "ceiling")


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """Spearman's correlation with the true quality: the mean over threads, and over all replies."""

    within: float
    pooled: float


def recovered(
    threads: Sequence[ReplyThread], model: KarmaModel, rewards: Mapping[str, Callable[[], Any]]
) -> dict[str, Recovered]:
    """By each reward, and by the ceiling: an oracle regression, which knows the model of karma."""
    quality = [np.array([true_quality(story.prompt, story.response) for story in thread]) for thread in threads]
    by_reward = {}
    for name, reward in {**{name: make() for name, make in rewards.items()}, "ceiling": OracleResidual(model)}.items():
        reward.fit(threads)
        values = list(rewards_by_thread(reward, threads))
        by_reward[name] = Recovered(within=float(within_threads(values, quality).mean()), pooled=over_all(values, quality))
    return by_reward


def threads_of(demo: DemoSubreddit) -> list[list[Story]]:
    """As preparation takes them, before it looks at their language or length."""
    listed = ([story for story, reason in thread_stories(thread) if reason is None] for thread in demo)
    return [thread for thread in listed if thread]


def recovery(seeds: int) -> list[Figure]:
    """At the defaults, the mean over subreddits."""
    figures = []
    for seed in range(seeds):
        figures.append(recovered(threads_of(DemoSubreddit(seed=seed)), KarmaModel(), REWARDS))
        print(f"seed {seed}: " + ", ".join(f"{name} {one.within:.3f}" for name, one in figures[-1].items()), flush=True)
    within = {name: mean(one[name].within for one in figures) for name in figures[0]}
    share = mean(one["residual"].within / one["ceiling"].within for one in figures)
    about = f"Spearman's with the true quality, mean of {seeds} subreddits"
    return [
        Figure(name="recovery_ceiling", value=within["ceiling"], target="", meaning=f"{about}; within threads, true model known"),
        *(Figure(name=f"recovery_{name}", value=within[name], target="0.2 to 0.5" if name == "karma" else "",
                 meaning=f"{about}; within threads, reward={name}") for name in REWARDS),
        *(Figure(name=f"pooled_{name}", value=mean(one[name].pooled for one in figures), target="",
                 meaning=f"{about}; over all replies, reward={name}") for name in (*REWARDS, "ceiling")),
        Figure(name="residual_vs_ceiling", value=share, target=">= 0.9", meaning="recovery_residual over recovery_ceiling"),
    ]  # fmt: skip


def swept(plot: Path) -> None:
    """One cause of karma after the other made weaker and stronger; drawn."""
    results: dict[str, dict[float, dict[str, Recovered]]] = {}
    shown = {name: REWARDS[name] for name in SHOWN if name in REWARDS}
    for name, values in SWEPT.items():
        results[name] = {}
        for value in values:
            model = replace(KarmaModel(), **{name: value})
            results[name][value] = recovered(threads_of(DemoSubreddit(threads=SWEPT_THREADS, karma=model)), model, shown)
            print(f"{name}={value}: " + ", ".join(f"{n} {results[name][value][n].within:.3f}" for n in SHOWN), flush=True)
    _draw(results, plot)


def _draw(results: dict[str, dict[float, dict[str, Recovered]]], plot: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rfr"
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(2, len(results), figsize=(9, 5.2), layout="constrained", sharey="row")
    for row, (kind, label) in zip(rows, (("within", "within threads"), ("pooled", "over all replies")), strict=True):
        for axes, (name, by_value) in zip(row, results.items(), strict=True):
            for reward in SHOWN:
                heights = [getattr(by_value[value][reward], kind) for value in by_value]
                dashed = reward == "ceiling"
                axes.plot(list(by_value), heights, marker=None if dashed else "o", markersize=3, label=reward,
                          linestyle="--" if dashed else "-", color="gray" if dashed else None, linewidth=1.2)  # fmt: skip
            axes.axvline(getattr(KarmaModel(), name), color="black", alpha=0.2, linewidth=1)
            axes.set(xlabel=name)
            axes.grid(visible=True, alpha=0.3)
        row[0].set_ylabel(f"Spearman's with the\ntrue quality, {label}")
        row[0].set_ylim(bottom=0)  # last: it also ends the axis' growth at the top
    rows[0][0].legend(fontsize=8)
    figure.savefig(plot, metadata={"Date": None})

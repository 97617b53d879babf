"""The figures, the table by round and the picture of `make bench-chain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from bench.lib.chain_runs import AGENTS, BEST_OF, Seed
from bench.lib.report import Figure
from rfr.evaluate.paired_gain import PairedGain, paired_gain
from rfr.evaluate.within_prompts import correlation
from rfr.report.round_plot import Point, round_plot
from rfr.rollouts.chain import scored_stories
from rfr.rollouts.round_stories import RoundStories

WRITTEN = ("bc", "rwr_karma", "rwr_residual", f"best_of_{BEST_OF}", *AGENTS)
MEANINGS = {
    "bc": "cloned", "rwr_karma": "rwr on raw karma", "rwr_residual": "rwr on residual, with which all agents begin",
    f"best_of_{BEST_OF}": f"of {BEST_OF} stories of rwr_residual the judge's choice", "agent_rwr": "rwr on own stories",
    "agent_raft": "cloning of the best own stories", "agent_dpo": "dpo, the best own story against the worst",
    "agent_rloo": "policy gradient", "random_twin": "as agent_rwr, the scores shuffled within prompts; after its last round",
    "agent_truth": "as agent_rwr, the true quality in the judge's place",
}  # fmt: skip
SUFFIX = {0.8: "", 1.0: "_t1"}
COLUMNS = {
    "quality": ".3f", "score": "+.3f", "watch": "+.3f", "kl": ".2f", "length": ".0f", "cut_off": ".1%", "distinct_3": ".3f",
}  # fmt: skip
JUDGED_PROMPTS = 64
Stories = Mapping[tuple[str, float], RoundStories]


def figures(seeds: Sequence[Seed]) -> list[Figure]:
    """All figures of `chain.json`; means are over seeds, intervals too."""
    written = [seed.stories() for seed in seeds]
    gains = {suffix: _gain(written, "agent_rwr", temperature) for temperature, suffix in SUFFIX.items()}
    twin = _gain(written, "random_twin", 0.8)
    lengths = {name: mean(float(stories[name, 0.8].lengths.mean()) for stories in written) for name in WRITTEN}
    qualities = [
        Figure(name=f"quality_{name}{suffix}", value=_quality(written, name, temperature), target="",
               meaning=f"true quality at temperature {temperature:g}, mean of {len(seeds)} seeds; {MEANINGS[name]}")
        for temperature, suffix in SUFFIX.items() for name in WRITTEN
    ]  # fmt: skip
    for suffix, gain in gains.items():
        name = f"gain_agent_over_rwr_residual{suffix}"
        qualities.append(
            Figure(name=name, value=gain.gain, target=">= 0.08", meaning="agent_rwr less its start, paired by prompts")
        )
        low = "lower end of its 95 % interval over seeds"
        qualities.append(Figure(name=f"{name}_low", value=gain.low, target="> 0.04", meaning=low))
    judged = [seed.judge() for seed in seeds]
    accuracies = [(one["val/pair_accuracy"] - 0.5) / (one["judge/pair_accuracy_of_truth"] - 0.5) for one in judged]
    truth = [_truth_correlation(seed.first_round()) for seed in seeds]
    return [
        *qualities,
        Figure(name="gain_random_twin_over_start_high", value=twin.high, target="<= 0.02", meaning="upper end over seeds"),
        Figure(name="kl_agent", value=_mean_of(seeds, "agent_rwr", "kl"), target="", meaning="from its start, nats a story"),
        Figure(name="share_cut_off", value=mean(float((~one["agent_rwr", 0.8].ended).mean()) for one in written), target="",
               meaning="of agent_rwr's stories at temperature 0.8"),
        Figure(name="length_ratio", value=lengths["agent_rwr"] / lengths["rwr_residual"], target="0.8 to 1.25",
               meaning="of agent_rwr's stories to its start's, in tokens"),
        Figure(name="judge_accuracy_vs_truth", value=mean(accuracies), target=">= 0.75",
               meaning="of the judge on held-out pairs, beyond a coin, over the true quality's on the same pairs"),
        Figure(name="judge_truth_correlation", value=mean(truth), target=">= 0.35",
               meaning=f"of score and true quality within the prompt, {JUDGED_PROMPTS} x 8 of the start's stories"),
        Figure(name="judge_truth_correlation_least", value=min(truth), target=">= 0.25", meaning="of the seeds"),
    ]  # fmt: skip


def _quality(written: Sequence[Stories], name: str, temperature: float) -> float:
    return mean(float(stories[name, temperature].quality.mean()) for stories in written)


def _gain(written: Sequence[Stories], name: str, temperature: float) -> PairedGain:
    """How much better a policy writes than the one that agents began with."""
    better = [scored_stories(stories[name, temperature], "quality") for stories in written]
    worse = [scored_stories(stories["rwr_residual", temperature], "quality") for stories in written]
    return paired_gain(better, worse)


def _mean_of(seeds: Sequence[Seed], name: str, key: str) -> float:
    """The mean over seeds of a figure that the reports give for a policy at temperature 1."""
    return mean(
        row[key]
        for seed in seeds
        for row in seed.report()["policies"]
        if row["policy"] == str(seed.policies[name]) and row["temperature"] == 1.0
    )


def _truth_correlation(stories: RoundStories) -> float:
    """The judge's score against the true quality, within prompts, on the first of a round's prompts."""
    count = JUDGED_PROMPTS * len(stories) // len(set(stories.prompts))
    return correlation(stories.score[:count], stories.quality[:count], stories.prompts[:count])


def _by_round(seeds: Sequence[Seed]) -> dict[str, list[list[dict[str, Any]]]]:
    """The figures of every seed, by agent and round."""
    rows: dict[str, list[list[dict[str, Any]]]] = {}
    reports = [seed.report() for seed in seeds]
    for name in AGENTS:
        runs = [str(seed.folder / "chain" / name) for seed in seeds]
        of_seeds = [[row for row in report["rounds"] if row["run"] == run] for run, report in zip(runs, reports, strict=True)]
        rows[name] = [list(of_round) for of_round in zip(*of_seeds, strict=True)]
    return rows


def chain_table(seeds: Sequence[Seed]) -> dict[str, list[dict[str, str]]]:
    """A table for each agent with a row per round; figures are means over seeds, of stories at temperature 1."""
    return {f"{name}: {MEANINGS[name]}": [_row(number, of_round) for number, of_round in enumerate(rounds)]
            for name, rounds in _by_round(seeds).items()}  # fmt: skip


def _row(number: int, of_round: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    values = {key: f"{mean(row[key] for row in of_round):{form}}" for key, form in COLUMNS.items()}
    return {"after round": str(number), **values}


def picture(seeds: Sequence[Seed]) -> str:
    """True quality after each round; the ends of a whisker are the least and the most of the seeds."""
    runs = {
        name: [Point(number, mean(values), min(values), max(values))
               for number, values in enumerate([[row["quality"] for row in of_round] for of_round in rounds])]
        for name, rounds in _by_round(seeds).items()
    }  # fmt: skip
    written = [seed.stories() for seed in seeds]
    levels = {name: _quality(written, name, 1.0) for name in WRITTEN if name not in AGENTS}
    return round_plot("true quality at temperature 1, on held-out prompts", runs, levels)

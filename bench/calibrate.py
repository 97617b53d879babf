"""Set the demo subreddit's karma beside a real store's: `python -m bench.calibrate data/WritingPrompts.db`. The table also goes
to docs/calibration.md.

What KarmaModel's defaults were chosen by: score quantiles, thread sizes, how often the longer of two replies has the
more karma, and how wide karma spreads within a thread. True quality is not looked at; the real one is not known.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf

import numpy as np

from bench.lib.report import ROOT
from rfr.data.replies import thread_stories
from rfr.demo.subreddit import DemoSubreddit
from rfr.evaluate.pair_accuracy import accuracy, karma_pairs
from rfr.records import Thread
from rfr.reward.base import scores
from rfr.reward.confounders import words
from rfr.store.store import Store
from rfr.utils.terminal import print_table

TITLE = "the demo's karma beside the real one"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def shape(threads: Iterable[Thread]) -> dict[str, str]:
    """The figures of one corpus, as a column of the table."""
    by_thread = [
        [story for story, reason in thread_stories(thread) if reason is None and story.score is not None] for thread in threads
    ]
    by_thread = [stories for stories in by_thread if stories]
    stories = [story for of_thread in by_thread for story in of_thread]
    lengths = words(stories)
    spreads = [np.std(np.log1p(np.maximum(0, scores(of_thread)))) for of_thread in by_thread if len(of_thread) > 5]
    figures = {
        "threads": f"{len(by_thread):,}",
        "replies": f"{len(stories):,}",
        **_quantiles("score", scores(stories)),
        **_quantiles("replies of a thread", [len(of_thread) for of_thread in by_thread]),
        "scores below 0": f"{np.mean(scores(stories) < 0):.1%}",
        "spread of log(1 + score) in a thread": f"{np.mean(spreads):.2f}",
    }
    for ratio in (2, 5):
        row = accuracy(karma_pairs(stories, ratio), lengths)
        figures[f"the longer has the more karma, x{ratio}"] = f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return figures


def _quantiles(name: str, values: SequenceOf[float] | np.ndarray) -> dict[str, str]:
    return {
        f"{name}, {level:.0%}": f"{value:,.0f}" for level, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
    }


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m bench.calibrate path/to/a/real/store.db")
    with Store(sys.argv[1]) as store:
        real = shape(store.threads())
    demo = shape(DemoSubreddit())
    print_table([{"": name, "real": real[name], "demo": demo[name]} for name in real], title=TITLE)
    rows = [f"| {name} | {real[name]} | {demo[name]} |" for name in real]
    head = [f"# {TITLE.capitalize()}", "", "Written by `python -m bench.calibrate`; not by hand.", "", "| | real | demo |",
            "| --- | --- | --- |"]  # fmt: skip
    (ROOT / "docs" / "calibration.md").write_text("\n".join([*head, *rows]) + "\n")


if __name__ == "__main__":
    main()

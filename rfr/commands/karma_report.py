"""`report=karma`: whether karma is a reward in a corpus, which reward suits it, and what karma is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfr.data.clean.cleaner import Clean, KeepingNotes
from rfr.data.corpus import Corpus
from rfr.data.replies import scored_stories
from rfr.evaluate.karma_variance import correlations, variance_shares, with_true_quality
from rfr.evaluate.metrics import fitted_rewards
from rfr.evaluate.recommendation import recommend
from rfr.evaluate.text_correlation import text_correlation
from rfr.ranges import ZeroOrMore
from rfr.report.karma_findings import karma_findings
from rfr.report.karma_page import karma_page
from rfr.report.report_files import ABOUT, HEAD, head, report_folder, require_place, write_report
from rfr.reward.base import Reward
from rfr.reward.karma import Karma, LogKarma
from rfr.reward.thread import ThreadZscore
from rfr.utils.terminal import print_table, printable

VOTED_S = 7 * 24 * 3600  # a post older than a week is out of every listing that people read
CEILING = "ceiling"  # the reward that knows how karma comes about


@dataclass(frozen=True, kw_only=True)
class KarmaReport:
    """The report on a corpus, which needs no policy; see `conf/report/karma.yaml`."""

    corpus: Corpus
    clean: Clean
    min_age_h: ZeroOrMore
    rewards: Mapping[str, Reward]
    out: str | None
    runs_dir: str

    def run(self) -> None:
        """Leave `karma.json` and `karma.html`, print tables and one JSON line."""
        out, about = (
            Path(self.out or report_folder(Path(self.runs_dir) / "karma", self.corpus.name)),
            {"corpus": self.corpus.name},
        )
        require_place(out, "karma.json", about)
        report = {ABOUT: about, HEAD: head(corpus=self.corpus.name, simulated=self.corpus.simulated), **self._figures()}
        _print(report)
        line = {"out": str(out), "threads": report["threads"], "stories": report["stories"], **report["recommended"]}
        print(json.dumps(line), flush=True)
        write_report(out, {"karma.json": json.dumps(report, indent=2) + "\n", "karma.html": karma_page(report)})

    def _figures(self) -> dict[str, Any]:
        clean = KeepingNotes(self.clean)
        with self.corpus.open() as store:
            threads, read_again = scored_stories(store.threads(), clean, self.min_age_h), store.read_again(VOTED_S)
        candidates = {**self.rewards, "karma": Karma(), "log_karma": LogKarma(), "thread_zscore": ThreadZscore()}
        rewards, unavailable = fitted_rewards(candidates, threads, threads)
        text = text_correlation(threads, rewards, [[clean.uncut(story) for story in thread] for thread in threads])
        figures: dict[str, Any] = {
            "threads": len(threads),
            "stories": sum(map(len, threads)),
            "text": None if text is None else text.figures(),
            "recommended": vars(recommend(text)),
            "variance_shares": variance_shares(threads, read_again),
            "correlations": correlations(threads, rewards),
            "unavailable_rewards": unavailable,
        }
        if self.corpus.quality is not None:
            ceiling, _ = fitted_rewards({CEILING: self.corpus.ceiling}, threads, threads)
            figures["true_quality"] = with_true_quality(threads, {**rewards, **ceiling}, self.corpus.quality)
        return figures


def _print(report: Mapping[str, Any]) -> None:
    causes = [
        {"cause": name, "share of its variance": "n/a" if share is None else f"{share:.1%}"}
        for name, share in report["variance_shares"].items()
    ]
    if causes:
        print_table(causes, title="what log karma is made of")
    if report["correlations"]:
        about = "rank correlation within threads of each reward with what is no merit"
        print_table(_by_reward(report["correlations"]), title=about)
    for sentence in karma_findings(report):
        print(f"- {printable(sentence)}")


def _by_reward(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        shown = "" if row["within"] is None else f"{row['within']:+.2f}"
        table.setdefault(row["reward"], {"reward": row["reward"]})[row["confounder"]] = shown
    columns = {name for row in table.values() for name, value in row.items() if value}
    return [{name: value for name, value in row.items() if name in columns} for row in table.values()]

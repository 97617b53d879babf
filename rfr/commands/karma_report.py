"""`report=karma`: what karma is made of, what each reward keeps of that, and which reward suits the corpus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfr.data.clean.cleaner import Clean
from rfr.data.corpus import Corpus
from rfr.data.replies import scored_stories
from rfr.evaluate.karma_variance import correlations, recommend, variance_shares
from rfr.evaluate.metrics import fitted_rewards
from rfr.ranges import ZeroOrMore
from rfr.report.karma_page import karma_page
from rfr.report.report_files import ABOUT, require_place, write_report
from rfr.reward.base import Reward
from rfr.reward.karma import LogKarma
from rfr.utils.terminal import print_table

VOTED_S = 7 * 24 * 3600  # a post older than a week is out of every listing that people read


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
        """Leave `karma.json` and `karma.html`, print tables and one JSON line.

        Raises:
            UserError: too few threads, or karma that is all alike.
        """
        out, about = Path(self.out or Path(self.runs_dir) / "karma"), {"corpus": self.corpus.name}
        require_place(out, "karma.json", about)
        findings = self._findings()
        causes = [
            {"cause": name, "share of its variance": "n/a" if share is None else f"{share:.1%}"}
            for name, share in findings["variance_shares"].items()
        ]
        print_table(causes, title="what log karma is made of")
        print_table(
            _by_reward(findings["correlations"]), title="rank correlation within threads of each reward with what is no merit"
        )
        advice = findings["recommended"]
        print_table([{"reward": advice["reward"], "because": "; ".join(advice["reasons"])}], title="for this corpus")
        line = {"out": str(out), "threads": findings["threads"], "stories": findings["stories"], **advice}
        print(json.dumps(line), flush=True)
        report = json.dumps({ABOUT: about, **findings}, indent=2) + "\n"
        write_report(out, {"karma.json": report, "karma.html": karma_page(findings)})

    def _findings(self) -> dict[str, Any]:
        with self.corpus.open() as store:
            threads, read_again = scored_stories(store.threads(), self.clean, self.min_age_h), store.read_again(VOTED_S)
        shares = variance_shares(threads, read_again)
        rewards, unavailable = fitted_rewards({"log_karma": LogKarma(), **self.rewards}, threads, threads)
        return {
            "threads": len(threads),
            "stories": sum(map(len, threads)),
            "variance_shares": shares,
            "correlations": correlations(threads, rewards),
            "unavailable_rewards": unavailable,
            "recommended": vars(recommend(threads, shares)),
        }


def _by_reward(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        shown = "" if row["within"] is None else f"{row['within']:+.2f}"
        table.setdefault(row["reward"], {"reward": row["reward"]})[row["confounder"]] = shown
    columns = {name for row in table.values() for name, value in row.items() if value}
    return [{name: value for name, value in row.items() if name in columns} for row in table.values()]

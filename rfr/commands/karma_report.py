"""`evaluate.py mode=karma`: what the karma of a corpus is made of, what rewards keep of that, and which reward suits it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rfr.config import corpus_name, resolve
from rfr.data.replies import scored_stories
from rfr.evaluate.karma_variance import correlations, recommended, variance_shares
from rfr.evaluate.metrics import fitted_rewards
from rfr.report.karma_page import karma_page
from rfr.report.output import ABOUT, require_place, write_report
from rfr.reward.karma import LogKarma
from rfr.utils.terminal import print_table

VOTED_S = 7 * 24 * 3600  # a post older than a week is out of every listing that people read


class Karma:
    """The mode of evaluate.py that looks at a corpus and needs no policy."""

    def run(self, cfg: DictConfig) -> None:
        """Leave `karma.json` and `karma.html`, print tables and one JSON line.

        Raises:
            ValueError: too few threads, or karma that is all alike.
        """
        _report(cfg)


def _report(cfg: DictConfig) -> None:
    out, about = Path(cfg.out or Path(cfg.runs_dir) / "karma"), {"corpus": corpus_name(cfg)}
    require_place(out, "karma.json", about)
    found = _findings(cfg)
    made_of = [{"cause": name, "share of its variance": _share(share)} for name, share in found["variance_shares"].items()]
    print_table(made_of, title="what log karma is made of")
    print_table(_by_reward(found["correlations"]), title="rank correlation within threads of each reward with what is no merit")
    advice = found["recommended"]
    print_table([{"reward": advice["reward"], "because": "; ".join(advice["reasons"])}], title="for this corpus")
    print(json.dumps({"out": str(out), "threads": found["threads"], "stories": found["stories"], **advice}), flush=True)
    write_report(out, {"karma.json": json.dumps({ABOUT: about, **found}, indent=2) + "\n", "karma.html": karma_page(found)})


def _findings(cfg: DictConfig) -> dict[str, Any]:
    if OmegaConf.is_missing(cfg.model, "weights"):
        cfg.model.weights = None
    cfg = resolve(cfg)
    corpus, clean = instantiate(cfg.corpus), instantiate(cfg.preprocess.clean)
    with corpus.open() as store:
        min_age_h = cfg.preprocess.min_age_h
        threads, read_again = scored_stories(store.threads(), clean, min_age_h), store.read_again(VOTED_S)
    shares = variance_shares(threads, read_again)
    rewards, refused = fitted_rewards({"log_karma": LogKarma(), **instantiate(cfg.rewards)}, threads, threads)
    return {
        "threads": len(threads), "stories": sum(map(len, threads)), "variance_shares": shares,
        "correlations": correlations(threads, rewards), "rewards_not_to_be_had_here": refused,
        "recommended": vars(recommended(threads, shares)),
    }  # fmt: skip


def _share(share: float | None) -> str:
    return "n/a" if share is None else f"{share:.1%}"


def _by_reward(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        shown = "" if row["within"] is None else f"{row['within']:+.2f}"
        table.setdefault(row["reward"], {"reward": row["reward"]})[row["confounder"]] = shown
    told = {name for row in table.values() for name, value in row.items() if value}
    return [{name: value for name, value in row.items() if name in told} for row in table.values()]

"""`make bench-rewards`: what of the true quality each reward recovers, and what it makes of a policy; on the demo subreddit.

`python -m bench.rewards [seeds]`. What is finished is kept in runs/bench-rewards; started again, it goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bench.lib.report import ROOT, Figure, record
from bench.lib.reward_policies import STORIES, policies
from bench.lib.reward_recovery import recovery, swept

SEEDS = 5


def kept(path: Path, compute: Callable[[], list[Figure]]) -> list[Figure]:
    """Computed once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(figure) for figure in compute()]))
    return [Figure(**figure) for figure in json.loads(path.read_text())]


def main(seeds: int) -> None:
    folder = ROOT / "runs" / "bench-rewards"
    figures = kept(folder / f"recovery-{seeds}.json", lambda: recovery(seeds))
    swept(ROOT / "docs" / "bench-rewards.svg")
    figures += policies(seeds, folder)
    about = {"subreddits": str(seeds), "stories": f"{STORIES} on each held-out prompt, of each policy"}
    record(
        "rewards", figures, ["torch", "scikit-learn", "numpy"], about, "where each reward breaks, one cause of karma at a time"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)

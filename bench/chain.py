"""`make bench-chain`: from karma to agents that learn from their own stories, on demo subreddits, judged by the true quality.

`python -m bench.chain [seeds]`. Corpus, policies and judges differ from seed to seed. What is finished is kept in
runs/bench-chain; started again, it goes on.
"""

from __future__ import annotations

import sys

from bench.lib.chain_figures import chain_table, figures, picture
from bench.lib.chain_runs import Seed
from bench.lib.report import ROOT, Figure, record

SEEDS = 3


def main(seeds: int) -> None:
    folder = ROOT / "runs" / "bench-chain"
    done = [Seed(folder / f"seed-{seed}", seed) for seed in range(seeds)]
    for seed in done:
        seed.run()
    (ROOT / "docs" / "bench-chain.svg").write_text(picture(done))
    spent = {part: sum(seed.minutes.spent().get(part, 0.0) for seed in done) for part in done[0].minutes.spent()}
    about = {
        "subreddits": str(seeds),
        "stories": "8 on each held-out prompt, top-p 1, at most 200 tokens",
        "agents": "each is the policy of the round that its watch judge chose; the random twin that of its last round",
        "minutes": ", ".join(f"{part} {minutes:.0f}" for part, minutes in spent.items()),
    }
    total = Figure(name="minutes", value=sum(spent.values()), target="<= 120", meaning="of all seeds")
    record("chain", [*figures(done), total], ["torch", "transformers"], about, "true quality after each round", chain_table(done))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)

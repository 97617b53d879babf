"""Where every pair and every token of a corpus went, with sums that are exact."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
KEPT = "kept"


@dataclass(kw_only=True)
class Account:
    """What came into a split, by where it went: tokens and karma of every story, under a reason or KEPT."""

    tokens: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    karma: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def book(self, reason: str | None, tokens: int, karma: int | None) -> None:
        """One story; karma None: nobody knows it."""
        self.tokens[reason or KEPT].append(tokens)
        self.karma[reason or KEPT].append(np.nan if karma is None else karma)

    def close(self) -> dict[str, Any]:
        """The account, JSON-able. Tokens are the stories' own, without prompt and end-of-text."""
        groups = {reason: _group(self.tokens[reason], self.karma[reason]) for reason in sorted(self.tokens)}
        everything = _group(
            [count for counts in self.tokens.values() for count in counts],
            [score for scores in self.karma.values() for score in scores],
        )
        for unit in ("pairs", "tokens"):
            assert everything[unit] == sum(group[unit] for group in groups.values()), f"the ledger lost {unit}"
        kept = groups.pop(KEPT, _group([], []))
        return {"came_in": everything, "kept": kept, "left_out": groups}


def _group(tokens: list[int], karma: list[float]) -> dict[str, Any]:
    known = np.array(karma, np.float64)
    return {
        "pairs": len(tokens),
        "tokens": int(sum(tokens)),
        "tokens_per_story": _spread(np.array(tokens, np.float64)),
        "karma": _spread(known[~np.isnan(known)]),
    }


def _spread(values: np.ndarray) -> dict[str, float] | None:
    """Mean and quantiles; None of nothing."""
    if not len(values):
        return None
    spread = {"mean": float(values.mean())} | {name: float(np.quantile(values, share)) for name, share in QUANTILES.items()}
    return {name: round(value, 2) for name, value in spread.items()}


def ledger_rows(ledger: dict[str, Any]) -> list[dict[str, Any]]:
    """The ledger of all splits as the rows of a table: one per split and per place where its pairs went."""
    rows = []
    for split, account in ledger.items():
        places = {"came in": account["came_in"], **account["left_out"], "kept": account["kept"]}
        for place, group in places.items():
            tokens, karma = group["tokens_per_story"] or {}, group["karma"] or {}
            rows.append({
                "split": split, "where": place, "pairs": f"{group['pairs']:,}", "tokens": f"{group['tokens']:,}",
                "median tokens": tokens.get("median"), "median karma": karma.get("median"), "mean karma": karma.get("mean"),
            })  # fmt: skip
    return rows

"""Counts where every story and every token of a corpus went; the sums are exact."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rfr.data.pack.long_stories import STORY_TOO_LONG
from rfr.data.replies import POST_UNKNOWN

QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
KEPT = "kept"
TOKEN_BINS = (0, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 4096)  # lower bounds; the last bin has no upper one
KARMA_BINS = (-1000, 0, 1, 2, 3, 5, 10, 20, 50, 100, 300, 1000, 3000)


@dataclass(kw_only=True)
class Ledger:
    """The tokens and karma of every story that came into a split, under the reason why it was left out, or under KEPT."""

    tokens: dict[str, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    karma: dict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))

    def add(self, reason: str | None, tokens: int, karma: int | None) -> None:
        """One story; karma None: nobody knows it."""
        self.tokens[reason or KEPT].append(tokens)
        self.karma[reason or KEPT].append(np.nan if karma is None else karma)

    def summary(self) -> dict[str, Any]:
        """The ledger of a split, JSON-able. Tokens are the stories' own, without prompt and end-of-text."""
        groups = {reason: self._group(reason) for reason in sorted(self.tokens)}
        everything = self._group(*self.tokens)
        for unit in ("stories", "tokens"):
            assert everything[unit] == sum(group[unit] for group in groups.values()), f"the ledger lost {unit}"
        kept = groups.pop(KEPT, self._group())
        ledger = {"came_in": everything, "kept": kept, "left_out": groups, "histograms": self._histograms()}
        if STORY_TOO_LONG in groups:
            ledger["would_have_been_kept"] = self._group(KEPT, STORY_TOO_LONG)
        return ledger

    def _histograms(self) -> dict[str, Any]:
        """How many stories came in and were kept, by their tokens and by their karma."""
        return {
            name: {
                "bins": [f"{low:,}" if low > bins[0] or low == 0 else f"<{bins[1]}" for low in bins],
                "came_in": _counts([*values.values()], bins),
                "kept": _counts([values[KEPT]], bins),
            }
            for name, values, bins in (("tokens", self.tokens, TOKEN_BINS), ("karma", self.karma, KARMA_BINS))
        }

    def _group(self, *stages: str) -> dict[str, Any]:
        """The stories under any of these reasons."""
        tokens = np.concatenate([np.zeros(0, np.int64), *(np.asarray(self.tokens[stage]) for stage in stages)])
        karma = np.concatenate([np.zeros(0), *(np.asarray(self.karma[stage]) for stage in stages)])
        return {
            "stories": len(tokens),
            "tokens": int(tokens.sum()),
            "tokens_per_story": _spread(tokens),
            "karma": _spread(karma[~np.isnan(karma)]),
        }


def _counts(parts: list[array], bins: tuple[int, ...]) -> list[int]:
    """How many values there are from each bin's number up to the next; unknown ones are in none, smaller ones in the first."""
    values = np.concatenate([np.asarray(part, np.float64) for part in parts]) if parts else np.zeros(0)
    bin_indices = np.searchsorted(bins, values[~np.isnan(values)], side="right") - 1
    return np.bincount(np.maximum(bin_indices, 0), minlength=len(bins)).tolist()


def _spread(values: np.ndarray) -> dict[str, float] | None:
    """Mean and quantiles; None of nothing."""
    if not len(values):
        return None
    spread = {"mean": float(values.mean())} | {name: float(np.quantile(values, share)) for name, share in QUANTILES.items()}
    return {name: round(value, 2) for name, value in spread.items()}


def ledger_rows(ledger: dict[str, Any]) -> list[dict[str, Any]]:
    """The ledger of all splits as the rows of a table: one per split and per place where its stories went."""
    rows = []
    for split, account in ledger.items():
        stages = {"came in": account["came_in"], **account["left_out"], "kept": account["kept"]}
        for stage, group in stages.items():
            tokens, karma = group["tokens_per_story"] or {}, group["karma"] or {}
            rows.append(
                {
                    "split": split,
                    "where": stage,
                    "stories": f"{group['stories']:,}",
                    "tokens": f"{group['tokens']:,}",
                    "median tokens": tokens.get("median"),
                    "median karma": karma.get("median"),
                    "mean karma": karma.get("mean"),
                }
            )
    return rows


def notes(ledger: dict[str, Any], min_age_h: float) -> list[str]:
    """Sentences about scores and posts that the corpus lacks and a user could still get, over all splits."""
    accounts = ledger.values()
    known, too_young = (sum(account["scores"][name] for account in accounts) for name in ("known", "too_young"))
    lacking = sum(account["left_out"].get(POST_UNKNOWN, {"stories": 0})["stories"] for account in accounts)
    replies = sum(account["came_in"]["stories"] for account in accounts)
    return [
        *([too_young_scores(too_young, known, min_age_h)] if too_young else []),
        *([no_posts(lacking, replies)] if lacking else []),
    ]


def too_young_scores(too_young: int, known: int, min_age_h: float) -> str:
    """The sentence about scores that were read before anybody had voted."""
    hours = "an hour" if min_age_h == 1 else f"{min_age_h:g} hours"
    return (
        f"{too_young:,} of {known:,} scores were read within {hours} of posting: they are not karma yet and count as unknown "
        f"(preprocess.min_age_h={min_age_h:g})"
    )


def no_posts(lacking: int, replies: int) -> str:
    """The sentence about replies whose posts were never imported: dumps hold them (RS_) apart from comments (RC_)."""
    return f"{lacking:,} of {replies:,} replies lack their posts: import the RS_ file (submissions) of the same month too"


def shift_rows(ledger: dict[str, Any]) -> list[dict[str, Any]]:
    """The effect of leaving out long stories, as the rows of a table; no rows where none was left out."""
    rows = []
    for split, account in ledger.items():
        if before := account.get("would_have_been_kept"):
            for measure in ("tokens_per_story", "karma"):
                for name, group in (("all that were good", before), ("those that fit", account["kept"])):
                    share = {
                        "stories": f"{group['stories'] / before['stories']:.1%}",
                        "tokens": f"{group['tokens'] / before['tokens']:.1%}",
                    }
                    rows.append(
                        {"split": split, "stories": name, **share, "of": measure.replace("_", " "), **(group[measure] or {})}
                    )
    return rows

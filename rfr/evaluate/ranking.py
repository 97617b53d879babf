"""Does a score rank same-thread pairs as karma does? Thread-bootstrap 95 % intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from itertools import combinations

from rfr.evaluate.quality import cluster_interval
from rfr.records import Pair

_Scored = tuple[Pair, int, float]  # a pair, its karma, its score


def pair_accuracy(
    pairs: SequenceOf[Pair], score: SequenceOf[float], ratio: float, keep: Callable[[Pair, Pair], bool] = lambda a, b: True
) -> dict[str, float | int | None]:
    """Share of same-thread pairs, karma apart by `ratio` or more, in which `score` is higher where karma is; ties count half.

    Args:
        score: one per pair.
        keep: a further condition on the two, such as equal length.
    """
    threads: dict[str, list[_Scored]] = defaultdict(list)
    for pair, value in zip(pairs, score, strict=True):
        if pair.score is not None:
            threads[pair.thread_id].append((pair, pair.score, value))
    groups = [_hits(members, ratio, keep) for members in threads.values()]
    groups = [group for group in groups if group]
    total = sum(map(len, groups))
    if not total:
        return {"accuracy": None, "low": None, "high": None, "pairs": 0}
    low, high = cluster_interval(groups)
    return {"accuracy": sum(map(sum, groups)) / total, "low": low, "high": high, "pairs": total}


def length_matched(a: Pair, b: Pair) -> bool:
    """Word counts within 10 % of the longer."""
    lengths = sorted((len(a.response.split()), len(b.response.split())))
    return lengths[0] >= 0.9 * lengths[1]


def _hits(members: SequenceOf[_Scored], ratio: float, keep: Callable[[Pair, Pair], bool]) -> list[float]:
    hits = []
    for one, other in combinations(members, 2):
        better, worse = (one, other) if one[1] > other[1] else (other, one)
        if better[1] >= ratio * max(1, worse[1]) and keep(one[0], other[0]):
            hits.append(0.5 if better[2] == worse[2] else float(better[2] > worse[2]))
    return hits

"""`make bench-advice`: how often the reward that `report=karma` advises is the best one, and how often 95 % intervals hold the
truth; on simulated subreddits whose causes of karma are drawn at random.

`python -m bench.advice`. What is finished is kept in runs/bench-advice; started again, it goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from bench.lib.advice_settings import FEW_THREADS, MANY_THREADS, TRUTH_SUBREDDITS, advised_in, drawn_settings, recovered_by
from bench.lib.coverage import POOL, Coverage, all_coverages, covered, of_subreddit, quantities
from bench.lib.report import ROOT, Figure, record
from rfr.utils.files import write_atomically
from rfr.utils.parallel import ordered_map

FOLDER = ROOT / "runs" / "bench-advice"
CLOSE, WRONG = 0.005, 0.01  # of the best reward's correlation with the true quality
LIMITS = {8: (0.92, 0.985), 20: (0.93, 0.975), 44: (0.93, 0.975), 100: (0.93, 0.975)}
PARTS = 8  # of the pool of threads
MINUTES = 75
Task = tuple[Path, Callable[[], Any]]


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    settings = drawn_settings()
    tasks: list[Task] = [(FOLDER / f"setting-{i}.json", partial(advised_in, setting)) for i, setting in enumerate(settings)]
    tasks += [
        (FOLDER / f"truth-{i}-{subreddit}.json", partial(recovered_by, setting, subreddit))
        for i, setting in enumerate(settings)
        for subreddit in range(TRUTH_SUBREDDITS)
    ]
    _all(tasks)
    _all([(FOLDER / f"pool-{part}.json", partial(of_subreddit, 10_000 + part, POOL // PARTS)) for part in range(PARTS)])
    pool = quantities([_read(f"pool-{part}") for part in range(PARTS)])
    coverages = [(FOLDER / f"coverage-{number}.json", partial(_coverage, *one)) for number, one in enumerate(all_coverages(pool))]
    _all(coverages)
    advice = [_judged(setting, i) for i, setting in enumerate(settings)]
    covers = [Coverage(**_read(f"coverage-{number}")) for number in range(len(coverages))]
    figures = [*_of_advice(advice), *_of_coverage(covers), _minutes()]
    tables = {
        "Advice, setting by setting": [_advice_row(setting, one) for setting, one in zip(settings, advice, strict=True)],
        "Coverage, quantity by quantity": list(_coverage_rows(covers)),
    }
    record("advice", figures, ["scikit-learn", "numpy", "scipy"], {}, tables=tables)


def _coverage(*what: Any) -> dict[str, Any]:
    return vars(covered(*what))


def _all(tasks: Sequence[Task]) -> None:
    """Every task whose result is not there yet; the time is added up over all attempts."""
    for _ in ordered_map(_done, [task for task in tasks if not task[0].exists()]):
        pass


def _done(task: Task) -> None:
    path, compute = task
    began = time.monotonic()
    result = compute()
    write_atomically(path, json.dumps({"result": result, "seconds": time.monotonic() - began}))


def _read(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())["result"]


def _minutes() -> Figure:
    """On two cores, if they share the work evenly."""
    seconds = sum(json.loads(path.read_text())["seconds"] for path in FOLDER.glob("*.json"))
    return Figure(name="minutes", value=seconds / 120, target=f"<= {MINUTES}", meaning="of all tasks together, on two cores")


def _judged(setting: dict[str, Any], index: int) -> dict[str, Any]:
    """`reward` and the one that the old rule names, each with what it loses of the best correlation with the true quality."""
    of_each = [_read(f"truth-{index}-{subreddit}") for subreddit in range(TRUTH_SUBREDDITS)]
    truth = {name: mean(one[name] for one in of_each) for name in of_each[0]}
    best, advised = max(truth.values()), _read(f"setting-{index}")
    by_rule = "adjusted_rank" if setting["threads"] < FEW_THREADS else "residual"
    return {
        "truth": truth,
        "advised": advised["reward"],
        "loss": None if advised["reward"] is None else best - truth[advised["reward"]],
        "by_rule": by_rule,
        "rule_loss": best - truth[by_rule],
        "many_threads": setting["threads"] >= MANY_THREADS,
        "trapped": any(setting["text"].values()),
    }


def _of_advice(advice: list[dict[str, Any]]) -> list[Figure]:
    given = [one for one in advice if one["advised"] is not None]
    many = [one for one in advice if one["many_threads"]]
    wrong, silent = sum(one["loss"] > WRONG for one in given) / len(advice), _share([one["advised"] is None for one in many])
    of_many = f"of the {len(many)} settings with {MANY_THREADS} threads or more"
    rule = "the rule that rfr followed before, which is never silent, on the same settings"
    return [
        Figure(name="advice_best_share", value=_close(given), target=">= 0.95",
               meaning=f"of the advice given, within {CLOSE} of the best"),
        Figure(name="advice_wrong_share", value=wrong, target="<= 0.03", meaning=f"of all settings, worse by over {WRONG}"),
        Figure(name="advice_silent_share", value=silent, target="<= 0.2", meaning=of_many),
        Figure(name="advice_given_share", value=len(given) / len(advice), target="", meaning="of all settings"),
        Figure(name="advice_settings", value=len(advice), target="", meaning="drawn once, by a seed"),
        Figure(name="advice_best_share_text_knobs_on", value=_close([one for one in given if one["trapped"]]), target="",
               meaning="of the advice given where a text knob is on"),
        Figure(name="advice_best_share_text_knobs_off", value=_close([one for one in given if not one["trapped"]]), target="",
               meaning="where both are off"),
        Figure(name="rule_best_share", value=_share([one["rule_loss"] <= CLOSE for one in advice]), target="", meaning=rule),
        Figure(name="rule_wrong_share", value=_share([one["rule_loss"] > WRONG for one in advice]), target="",
               meaning="that rule"),
    ]  # fmt: skip


def _close(given: list[dict[str, Any]]) -> float:
    return _share([one["loss"] <= CLOSE for one in given])


def _share(hits: list[bool]) -> float:
    return sum(hits) / len(hits) if hits else float("nan")


def _of_coverage(covers: list[Coverage]) -> list[Figure]:
    figures = []
    for threads, (least, most) in LIMITS.items():
        mine = sorted((one for one in covers if one.threads == threads), key=lambda one: one.coverage)
        for end, one, limit in (("low", mine[0], f">= {least}"), ("high", mine[-1], f"<= {most}")):
            name = f"coverage_{threads}_{end}"
            figures.append(Figure(name=name, value=one.coverage, target=limit, meaning=f"{threads} threads, {one.quantity}"))
        wider = mean(one.width / one.percentile_width for one in mine)
        about = f"{threads} threads: mean width over that of a percentile bootstrap"
        figures.append(Figure(name=f"width_{threads}", value=wider, target="", meaning=about))
    none = max(one.no_interval for one in covers if one.threads == min(LIMITS))
    return [*figures, Figure(name="no_interval_share_8", value=none, target="", meaning="of the draws of 8 threads, at most")]


CAUSES = {
    "herding": "herding", "luck": "noise", "readers (log)": "popularity_log_mean", "delay (log h)": "delay_log_mean",
    "length": "length_bias", "downvotes": "downvotes",
}  # fmt: skip


def _advice_row(setting: dict[str, Any], one: dict[str, Any]) -> dict[str, str]:
    text = setting["text"]
    return {
        "threads": str(setting["threads"]),
        **{name: f"{setting['karma'][key]:.2g}" for name, key in CAUSES.items()},
        "hurry, thanks": f"{text['hurry']:.2f}, {text['thanks']:.2f}",
        **{name: f"{value:.3f}" for name, value in one["truth"].items()},
        "advised": one["advised"] or "",
        "lost": "" if one["loss"] is None else f"{one['loss']:.3f}",
        "old rule": one["by_rule"],
        "lost by it": f"{one['rule_loss']:.3f}",
    }


def _coverage_rows(covers: list[Coverage]) -> Iterator[dict[str, str]]:
    for quantity in dict.fromkeys(one.quantity for one in covers):
        mine = [one for one in covers if one.quantity == quantity]
        yield {"quantity": quantity, **{f"{one.threads} threads": _shown(one) for one in mine}}


def _shown(one: Coverage) -> str:
    """The coverage; in brackets the mean widths of this interval and of a percentile bootstrap's."""
    return f"{one.coverage:.3f} ({one.width:.2g}, {one.percentile_width:.2g})"


if __name__ == "__main__":
    main()

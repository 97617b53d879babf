"""Prints what a run is made of before its first step."""

from __future__ import annotations

import numpy as np

from rfr.data.control_tokens import control_ids
from rfr.data.ledger import ledger_rows, notes, shift_rows
from rfr.data.prepare import Prepared, PreparedSplit
from rfr.data.split import Split
from rfr.strategy.ranks import ranks
from rfr.train.build import Run
from rfr.train.checkpoints import step_of
from rfr.utils.intervals import ENOUGH_GROUPS
from rfr.utils.terminal import print_table


def print_start(run: Run) -> None:
    """Print, once for all ranks, the ledger and what the run is made of."""
    if ranks().rank > 0:
        return
    recipe, prepared, objective = run.recipe, run.prepared, run.recipe.objective
    ledger = prepared.ledger["train"]
    # Weights of a conditional policy, trained on with an objective that adds no control tokens: all prompts get the best one's.
    best_only = bool(control_ids(prepared.tokenizer)) and objective.control is None
    facts = {
        "run": f"{run.run_dir}, going on from step {step_of(run.resume_from)}" if run.resume_from else run.run_dir,
        "precision": run.precision,
        "threads": recipe.threads,
        "parameters": f"{run.model.num_parameters():,}",
        "stories": f"{ledger['kept']['stories']:,} of {ledger['came_in']['stories']:,} replies (training threads)",
        "rows": f"{ledger['rows']:,} of {recipe.model.block_size} tokens, {ledger['packing_efficiency']:.1%} full",
        **run.data.shown,
        **({} if run.agent is None else {"own stories": run.agent.settings.in_words, "scored by": recipe.score.name}),
        **({"told before each prompt": "the best quantile"} if best_only else {}),
    }
    print_ledger(prepared, recipe.preprocess.min_age_h)
    print_table([facts], title=f"{objective.name} on {len(prepared.train.threads)} threads", vertical=True)
    if warning := few_held_out(prepared, recipe.preprocess.split):
        print(warning, flush=True)


def few_held_out(prepared: Prepared, split: Split) -> str | None:
    """What to set so that reports can tell something; None where enough threads are held out."""
    train, held_out = (_prompts(one) for one in (prepared.train, prepared.validation))
    if len(held_out) >= ENOUGH_GROUPS:
        return None
    have = f"{len(held_out)} held-out threads are too few for a report to claim anything, {ENOUGH_GROUPS} are needed"
    if (share := split.held_out_by([*train, *held_out], ENOUGH_GROUPS)) is not None:
        return f"{have}: preprocess.split.validation_share={share} holds out {ENOUGH_GROUPS}"
    remedy = "an earlier preprocess.split.cutoff" if split.cutoff is not None else "more threads"
    return f"{have}, of {len(train) + len(held_out)} that there are: it takes {remedy}"


def _prompts(split: PreparedSplit) -> list[str]:
    """One per thread."""
    firsts = np.unique(split.stories.column("thread_id"), return_index=True)[1]
    return split.stories.column("prompt")[firsts].tolist()


def print_ledger(prepared: Prepared, min_age_h: float) -> None:
    """Print where the replies went, what is missing, and what leaving out long stories did, where that was done."""
    print_table(ledger_rows(prepared.ledger), title="where the replies went")
    for line in notes(prepared.ledger, min_age_h):
        print(line, flush=True)
    if shift := shift_rows(prepared.ledger):
        print_table(shift, title="what leaving out long stories did")

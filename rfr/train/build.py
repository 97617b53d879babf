"""Builds a run from a recipe: prepares the data and builds the model, before the first file is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.strategies import SingleDeviceStrategy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.control_tokens import add_controls
from rfr.data.prepare import Prepared
from rfr.data.prompt_hashes import LEARNED, OWN, learned_prompts, prompt_hashes
from rfr.data.tokenise import content_of, train_bpe
from rfr.errors import UserError
from rfr.model.load import build_tokenizer
from rfr.model.reward_model import reward_model
from rfr.objective.training_data import TrainingData
from rfr.optimizer.adamw import StochasticAdamW
from rfr.optimizer.split_adamw import SplitAdamW
from rfr.records import Story
from rfr.strategy.layout import Layout
from rfr.strategy.nvme import require_room
from rfr.strategy.precision import PURE, resolve_precision
from rfr.strategy.ranks import ranks, world_size
from rfr.strategy.thread_count import set_threads
from rfr.train.agent import Agent, build_agent, people_data
from rfr.train.checkpoints import fingerprint, latest_intact, require_match
from rfr.train.policy import build_policy, require_trainable
from rfr.train.recipe import Recipe
from rfr.train.reference import ReferenceLogProbs
from rfr.utils.malloc import trim_freed_memory


@dataclass(frozen=True, kw_only=True)
class Run:
    """A recipe with its data and model on this machine, ready to be fitted."""

    recipe: Recipe
    run_dir: Path
    precision: str
    layout: Layout
    prepared: Prepared
    data: TrainingData
    model: PreTrainedModel
    agent: Agent | None  # None: people's stories are learned from
    learned: dict[str, np.ndarray]  # by file, hashes of the prompts that the trained model will have learned from
    resume_from: Path | None  # a checkpoint
    fingerprint: dict[str, Any]  # what a checkpoint of this run must have in common with it


def build(recipe: Recipe, run_dir: Path) -> Run:
    """Prepare the data and build the model.

    Raises:
        UserError: something does not fit; nothing has been written into the run folder then.
    """
    attention = require_trainable(recipe)
    precision = resolve_precision(recipe.precision)
    layout = recipe.make_layout(precision, run_dir)
    require_masters(recipe.make_optimizer.func, precision, layout)
    resume_from = latest_intact(run_dir / "checkpoints")
    prepared = prepare(recipe)
    loss = recipe.objective.loss
    data = people_data(recipe, prepared)
    agent = None if recipe.rollouts is None else build_agent(recipe, prepared)
    with trim_freed_memory():
        model = build_policy(recipe, prepared.tokenizer, layout.dtype, attention)
    recipe = recipe.with_threads(set_threads(recipe.threads, model.num_parameters()))
    if loss.needs_reference:
        reference = ReferenceLogProbs(model, precision, recipe.data_dir / "cache")
        data = data.with_reference(reference, training=agent is None)
    if not loss.is_policy:
        model = reward_model(model, recipe.model.block_size)
    own_fingerprint = fingerprint(model, rows_per_step(recipe))
    if resume_from is not None:
        require_match(resume_from, own_fingerprint)
    if layout.scratch is not None:
        require_room(layout.scratch, model.num_parameters())
    return Run(
        recipe=recipe,
        run_dir=run_dir,
        precision=precision,
        layout=layout,
        prepared=prepared,
        data=data,
        model=model,
        agent=agent,
        learned=_learned(prepared, recipe.model.weights),
        resume_from=resume_from,
        fingerprint=own_fingerprint,
    )


def _learned(prepared: Prepared, weights: str) -> dict[str, np.ndarray]:
    """Its own training prompts, and these with those that the weights it begins with learned from."""
    own, before = np.unique(prompt_hashes(prepared.train.stories.column("prompt"))), learned_prompts(weights)
    return {OWN: own, LEARNED: own if before is None else np.union1d(own, before)}


def require_masters(optimizer: Any, precision: str, layout: Layout) -> None:
    """Say it where small updates of bf16 parameters would be lost.

    Raises:
        UserError: the optimizer is for bf16 parameters, and they are in fp32; or the strategy can't exchange its gradients.
    """
    if optimizer is SplitAdamW and precision != PURE:
        raise UserError(
            f"optimizer=split_adamw is for precision={PURE}, not {precision}, which has masters: take optimizer=adamw"
        )
    if optimizer is SplitAdamW and not isinstance(layout.strategy, SingleDeviceStrategy):
        raise UserError(
            "optimizer=split_adamw gathers gradients in fp32 beside bf16 parameters, which only strategy=single can: here take "
            "precision=bf16 optimizer=adamw, whose masters are the parameters"
        )
    if precision == PURE and optimizer not in (SplitAdamW, StochasticAdamW) and ranks().rank == 0:
        print(
            f"warning: {optimizer.__name__} rounds bf16 parameters to the nearest, so updates below a 256th of one are lost: "
            "take optimizer=split_adamw (fp32 masters) or stochastic_adamw (fewer bytes)",
            flush=True,
        )


def rows_per_step(recipe: Recipe) -> int:
    """The rows of one optimizer step, over all ranks."""
    trainer = recipe.trainer
    if recipe.rollouts is not None:
        return recipe.rollouts.rows_per_step
    return world_size(trainer.ranks) * trainer.micro_batch * trainer.micro_batches


def prepare(recipe: Recipe) -> Prepared:
    """The corpus as rows, prepared now or before.

    Raises:
        UserError: a split is empty.
    """
    model, control = recipe.model, recipe.objective.control

    def make_tokenizer(stories: Iterable[Story]) -> PreTrainedTokenizerBase:
        if model.tokenizer == "corpus":
            texts = (text for story in stories for text in (story.prompt, story.response))
            tokenizer: PreTrainedTokenizerBase = train_bpe(texts, model.corpus_vocabulary)
        else:
            tokenizer = build_tokenizer(model.tokenizer, model.hub_name)
        return tokenizer if control is None else add_controls(tokenizer, control.count)

    identity = model.corpus_vocabulary if model.tokenizer == "corpus" else content_of(make_tokenizer([]))
    controls = [] if control is None else [control.count]
    with recipe.corpus.open() as store:
        return recipe.preprocess.prepare(store, make_tokenizer, [identity, *controls], recipe.data_dir / "cache")

"""What a run with `rollouts=own` needs beside its policy: prompts, the start policy, judges, people's stories."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rfr.data.prepare import Prepared
from rfr.errors import UserError
from rfr.objective.raw_weights import Constant
from rfr.objective.training_data import Objective, TrainingData, WeightedObjective
from rfr.rollouts.independence import tell_overlap
from rfr.rollouts.rollout_settings import Rollouts
from rfr.rollouts.story_writer import Judges, StoryWriter
from rfr.strategy.ranks import ranks
from rfr.train.load_judge import load_judges
from rfr.train.policy import start_policy
from rfr.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Agent:
    """Ready for its first round.

    Args:
        prompts: of the training threads, each once.
        held_out: validation prompts that the policy is looked at on.
        people: prompts and stories of the validation split.
    """

    settings: Rollouts
    writer: StoryWriter
    judges: Judges
    prompts: list[str]
    held_out: list[str]
    people: list[tuple[str, str]]


def build_agent(recipe: Recipe, prepared: Prepared) -> Agent:
    """
    Raises:
        UserError: a judge can't be used, or there are too few prompts.
    """
    settings = recipe.rollouts
    assert settings is not None
    prompts, validation = (
        list(dict.fromkeys(split.stories.column("prompt").tolist())) for split in (prepared.train, prepared.validation)
    )
    if len(prompts) < settings.prompts:
        raise UserError(f"rollouts.prompts={settings.prompts}, and the training threads have {len(prompts)} prompts: lower it")
    recipe.score.require(prompts)
    settings.require_independent_watch(recipe.score.folders)
    judges = load_judges(recipe.score, settings.watch_folders, recipe.corpus.quality, str(recipe.data_dir))
    start = start_policy(recipe, prepared.tokenizer)
    assert start is not None, "the recipe refuses random weights"
    if ranks().rank == 0:
        tell_overlap([*recipe.score.folders, *settings.watch_folders], prompts)
        if not settings.watch:
            print(
                "nobody watches: with rollouts.watch=<another judge's folder> the best policy is kept, and one that exploits its "
                "judge is noticed",
                flush=True,
            )
    told = prepared.validation.stories
    return Agent(
        settings=settings,
        writer=StoryWriter(
            prepared.tokenizer, settings.sampling, start, judges, recipe.model.block_size, offload=settings.offload
        ),
        judges=judges,
        prompts=prompts,
        held_out=validation[: settings.held_out["prompts"]],
        people=list(zip(told.column("prompt").tolist(), told.column("response").tolist(), strict=True)),
    )


def people_data(recipe: Recipe, prepared: Prepared) -> TrainingData:
    """People's stories: to learn from, or beside own ones to validate on and to mix in. Where none of them is learned from, no
    reward is fitted for their weights."""
    objective: Objective = recipe.objective
    if recipe.rollouts is not None and isinstance(objective, WeightedObjective) and not recipe.rollouts.people:
        objective = replace(objective, weight=Constant(), baseline=None)
    data = objective.training_data(prepared, recipe.reward)
    return data if recipe.rollouts is None else replace(data, shown={}, figures={}, arrays={})  # a round has its own

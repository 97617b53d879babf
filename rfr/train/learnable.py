"""Refuses combinations of an objective, own stories and a judge from which nothing can be learned."""

from __future__ import annotations

from rfr.errors import UserError
from rfr.evaluate.score import Score
from rfr.objective.raw_weights import Exponential
from rfr.objective.training_data import Objective, PairwiseObjective, PolicyGradientObjective, WeightedObjective
from rfr.rollouts.rollout_settings import Rollouts
from rfr.train.settings import TrainerSettings


def require_learnable(objective: Objective, rollouts: Rollouts | None, score: Score, weights: str) -> None:
    """
    Args:
        weights: of the policy, as `model.weights` names them.

    Raises:
        UserError: the objective does not learn from what is there.
    """
    if rollouts is None:
        if isinstance(objective, PolicyGradientObjective):
            raise UserError(f"objective={objective.name} learns from the policy's own stories: add rollouts=own judge=...")
        if score.given:
            raise UserError("a judge scores own stories: add rollouts=own, or leave out judge= (score.judge) and score=truth")
        return
    if not score.given:
        raise UserError(
            "rollouts=own needs a judge: judge= (score.judge) with the folder of an objective=reward_model, or score=truth"
        )
    if not objective.loss.is_policy or objective.control is not None:
        raise UserError(
            f"objective={objective.name} can't learn from own stories (rollouts=own): take rwr, rloo, dpo or filtered_bc"
        )
    if weights == "random":
        raise UserError("rollouts=own begins with a policy that can write: model.weights=runs/<name>/model")
    is_relative = not isinstance(objective, WeightedObjective) or objective.weight.uses_rewards
    if rollouts.stories == 1 and is_relative:
        raise UserError(f"objective={objective.name} compares the stories on a prompt: rollouts.stories must be 2 or more, not 1")
    if isinstance(objective, PairwiseObjective) and rollouts.prompts < rollouts.steps:
        raise UserError(
            f"objective={objective.name} has one pair a prompt: rollouts.steps={rollouts.steps} must not be above "
            f"rollouts.prompts={rollouts.prompts}"
        )
    weight = getattr(objective, "weight", None)
    if isinstance(weight, Exponential) and weight.target_ess is not None and weight.target_ess * rollouts.stories <= 1:
        raise UserError(
            f"objective.weight.target_ess={weight.target_ess} is out of reach with rollouts.stories={rollouts.stories}: the best "
            f"alone is {1 / rollouts.stories:.2g} of them; write more, or raise it"
        )
    if isinstance(objective, PolicyGradientObjective):
        rollouts.require_whole_policy(f"objective={objective.name}")


def require_whole_rounds(trainer: TrainerSettings, rollouts: Rollouts | None) -> None:
    """Raises UserError where a run would end within a round, or does not say how many micro-batches a step has."""
    if rollouts is None:
        if trainer.accumulate is None:
            raise UserError("trainer.accumulate must be a whole number, 1 or more: null is for rollouts=own")
    elif trainer.accumulate is not None:
        raise UserError("trainer.accumulate follows from a round's stories with rollouts=own: leave it out (null)")
    elif trainer.max_steps % rollouts.steps:
        raise UserError(
            f"trainer.max_steps={trainer.max_steps} is no multiple of rollouts.steps={rollouts.steps}: set rollouts.rounds"
        )

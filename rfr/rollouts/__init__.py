"""Learning from own stories: rounds of writing, judging and weighing; `conf/rollouts/` names the settings."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "rollout_settings": ["Rollouts", "no_rollouts"],
        "shaping": ["CutOffPenalty", "KLPenalty", "LengthControl", "Standardise"],
    },
)

"""What is measured about a policy, a reward or a corpus."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "judge_rules": ["AveragedWeights", "Mean", "Minimum", "Spread"],
        "metrics": ["PromptRanking"],
        "score": ["JudgeScore"],
    },
)

"""Objectives: losses, weights and baselines; `conf/objective/` names them."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "baselines": ["PromptValue", "ThreadMean"],
        "losses": ["BradleyTerry", "DPO", "PolicyGradient", "WeightedNLL"],
        "quantiles": ["Quantiles"],
        "training_data": ["PairwiseObjective", "PolicyGradientObjective", "WeightedObjective"],
        "raw_weights": ["Constant", "Exponential", "Linear", "Positive", "Top"],
    },
)

"""Optimizers and learning-rate schedules; `conf/optimizer/` and `conf/schedule/` name them."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adamw": ["StochasticAdamW", "cpu_adam", "torch_adamw"],
        "schedule": [
            "Constant",
            "Cosine",
            "CosineRestarts",
            "InverseSqrt",
            "Linear",
            "OneCycle",
            "Polynomial",
            "WarmupStableDecay",
        ],
        "split_adamw": ["SplitAdamW"],
    },
)

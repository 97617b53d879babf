"""Loggers; `conf/logger/` names them."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "loggers": ["csv_logger", "tensorboard_logger", "wandb_logger"],
    },
)

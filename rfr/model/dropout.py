"""Sets one dropout rate everywhere in an architecture, whatever it calls the places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

UNITS = re.compile(r".*(dropout|pdrop|drop_prob|drop_rate).*")  # zero some units
LAYERS = re.compile(r".*(layer_?drop|drop_?path).*")  # skip whole layers, which is another thing


def set_dropout(owner: PretrainedConfig | PreTrainedModel, rate: float) -> list[str]:
    """Set every dropout of a config, or of a model and its config; layers are no longer skipped.

    Returns:
        names of the settings that skipped whole layers and are 0 now; `rate` does not apply to them.
    """
    skipping = []
    for module in _submodules(owner):
        for name, value in list(vars(module).items()):
            if type(value) not in (int, float):
                continue
            if LAYERS.fullmatch(name):
                skipping += [name] if value else []
                setattr(module, name, 0.0)
            elif UNITS.fullmatch(name) or (name == "p" and isinstance(module, nn.modules.dropout._DropoutNd)):
                setattr(module, name, type(value)(rate) if rate in (0, 1) else rate)
    return list(dict.fromkeys(skipping))


def _submodules(owner: Any) -> Iterator[Any]:
    """Configs within configs, modules within modules and their configs."""
    if isinstance(owner, nn.Module):
        yield from owner.modules()
        owner = owner.config
    yield owner
    for value in vars(owner).values():
        if isinstance(value, PretrainedConfig):
            yield from _submodules(value)

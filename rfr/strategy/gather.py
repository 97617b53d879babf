"""Exchanges Python objects between the ranks of a run."""

from __future__ import annotations

from typing import Any

import torch.distributed


def gather_lists(own: list[Any]) -> list[list[Any]]:
    """The lists of all ranks, in their order, on every rank. Every rank must ask."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return [own]
    everyone: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(everyone, own)
    return everyone

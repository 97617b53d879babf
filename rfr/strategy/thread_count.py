"""The number of threads that a process computes with."""

from __future__ import annotations

import torch

SMALL_PARAMETERS = 2_000_000


def set_threads(asked: int | None, parameters: int) -> int:
    """Set the number of threads for the rest of the process, and return it.

    A small model's operations take some microseconds. Shared out, each ends with threads that spin while they wait for the
    slowest of them; beside another process, which has the core that they wait for, they wait for long.

    Args:
        asked: by the user, or by the config of a run that is gone on with; None: one for a small model, otherwise as many as the
            process has cores, or as OMP_NUM_THREADS says.
        parameters: of the model.
    """
    threads = asked or (1 if parameters < SMALL_PARAMETERS else torch.get_num_threads())
    torch.set_num_threads(threads)
    return threads

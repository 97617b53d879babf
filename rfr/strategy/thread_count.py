"""The number of threads that a process computes with."""

from __future__ import annotations

import torch

ONE_THREAD_BELOW = 2_000_000  # parameters
CORES = torch.get_num_threads()  # before anything sets another number; OMP_NUM_THREADS decides it where the user has set that


def set_threads(asked: int | None, parameters: int) -> int:
    """Set the number of threads for the rest of the process, and return it.

    A small model's operations take some microseconds. Shared out, each ends with threads that spin while they wait for the
    slowest of them; beside another process, which has the core that they wait for, they wait for long.

    Args:
        asked: by the user, or by the config of a resumed run; None: one for a small model, otherwise as many as the
            process has cores, or as OMP_NUM_THREADS says.
        parameters: of the model.
    """
    threads = asked or (1 if parameters < ONE_THREAD_BELOW else CORES)
    torch.set_num_threads(threads)
    return threads

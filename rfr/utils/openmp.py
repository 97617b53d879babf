"""Bounds the time that OpenMP's threads spin while they wait: another process may need the core."""

from __future__ import annotations

import os

SPINS = 3000  # some microseconds; GNU's own are 300,000, about a millisecond


def bound_spinning() -> None:
    """For the libraries that this process and its children load from now on; what the user has set stays."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)

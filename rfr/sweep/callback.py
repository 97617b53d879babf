"""Hydra's callback around a multirun: checks the points before it, compares the runs after it."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rfr.commands.train import GROUP
from rfr.utils.exits import exit_code
from rfr.utils.hashing import key_of


class Sweep(Callback):
    """Names the sweep's folder, says what is to be done, and at the end prints and writes the table of its runs."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        # The same sweep started again must find its folder: no clock in the name.
        os.environ[GROUP] = config.group or f"sweep-{key_of(sorted(config.hydra.overrides.task))[:8]}"
        if config.look == 0 and config.plan in (None, False):
            code = _preflight(config)
            if code or config.preview:
                raise SystemExit(code)  # Hydra turns any other exception into a warning and starts the points

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from rfr.commands.compare import compare

        compare(Path(config.runs_dir) / os.environ[GROUP])


def _preflight(config: DictConfig) -> int:
    """Its exit code; in a process of its own, since checking takes torch, and whoever waits for a sweep needs no such memory."""
    process = multiprocessing.get_context("fork").Process(target=_checked, args=(config,))
    process.start()
    process.join()
    return process.exitcode or 0


def _checked(config: DictConfig) -> None:
    import torch

    from rfr.sweep.preflight import preflight

    torch.set_num_threads(1)  # a fork lacks the threads that its parent started: with more than one thread it would wait for ever
    sys.exit(exit_code(lambda: preflight(config, os.environ[GROUP])))

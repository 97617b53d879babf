"""Starts the processes of a run with several ranks through torchrun's launcher.

`python -m rfr.train.launch <torchrun's arguments>` ends as the first process that failed did.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from rfr.utils.exits import INTERRUPTED


def launch(arguments: Sequence[str]) -> int:
    """The first failed process' exit code, minus a signal's number where one ended it; 130 where this process was stopped."""
    logging.disable()
    try:
        run(parse_args(list(arguments)))
    except SignalException:
        return INTERRUPTED
    except ChildFailedError as failed:
        return int(failed.get_first_failure()[1].exitcode)
    return 0


def _end_as(code: int) -> None:
    if code < 0:
        with suppress(OSError):  # SIGKILL takes no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    _end_as(launch(sys.argv[1:]))

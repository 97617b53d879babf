"""Exit codes: 0 done, 2 the user's input is wrong (one line), 130 interrupted, 1 anything else."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable

from rfr.errors import Interrupted, RunFailed, UserError
from rfr.utils.terminal import printable

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
NO_PLACE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
INTERRUPTED = 130  # what shells report of a process that Ctrl-C ended


def exit_code(main: Callable[[], object]) -> int:
    """Run something; tell what went wrong in one line where it was the user's input, or an installation cut short."""
    try:
        return _exit_code(main)
    except ModuleNotFoundError as error:
        if os.environ.get("RFR_DEBUG") or (error.name or "").startswith("rfr"):
            raise
        print(f"rfr: the module {error.name} is missing, the installation is not whole: run `make setup`", file=sys.stderr)
        return 2


def _exit_code(main: Callable[[], object]) -> int:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        main()
    except (Interrupted, KeyboardInterrupt) as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return INTERRUPTED
    except RunFailed as failure:
        print(f"rfr: {printable(str(failure))}", file=sys.stderr)
        return failure.code
    except (UserError, ValueError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("RFR_DEBUG"):
            raise
        print(f"rfr: {in_one_line(error)}", file=sys.stderr)
        return 2
    except sqlite3.DatabaseError as error:
        if type(error) not in (sqlite3.DatabaseError, sqlite3.OperationalError):  # the others are our mistakes
            raise
        print(f"rfr: the store can't be used ({error}): is it damaged, or locked by another program?", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in FULL:
            print(f"rfr: {error.strerror}: {error.filename or 'an output'} could not be written whole", file=sys.stderr)
        elif error.errno in NO_PLACE and error.filename:
            print(f"rfr: {error.strerror}: {printable(str(error.filename))}", file=sys.stderr)
        else:
            raise
        return 2
    return 0


def in_one_line(error: Exception) -> str:
    """The message on one line; of errors that Hydra wraps, the cause."""
    cause = error.__cause__ if type(error).__name__ == "InstantiationException" and error.__cause__ else error
    message = str(cause).split("Config search path:")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    return printable("; ".join(lines).replace(":; ", ": "))

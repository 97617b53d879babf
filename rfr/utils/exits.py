"""Exit codes: 0 done, 2 the user's input is wrong (one line), 130 interrupted, 1 anything else."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import traceback
from collections.abc import Callable

from rfr.errors import Interrupted, RunFailed, UserError
from rfr.utils.terminal import printable

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
NO_PLACE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
INTERRUPTED = 130  # what shells report of a process that Ctrl-C ended
FAULT = "rfr: this is a fault in rfr or in a library, not in your input. Please open an issue that holds the lines above."


def exit_code(main: Callable[[], object]) -> int:
    """Run `main` and return its exit code.

    An error that the user can mend is printed in one line. Any other is a fault: its traceback is printed, with a line that says
    where to report it.
    """
    try:
        main()
    except (Interrupted, KeyboardInterrupt) as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return INTERRUPTED
    except RunFailed as failure:
        print(f"rfr: {printable(str(failure))}", file=sys.stderr)
        return failure.code
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        message = remedy(error)
        if message and not os.environ.get("RFR_DEBUG"):
            print(f"rfr: {message}", file=sys.stderr)
            return 2
        traceback.print_exception(error)
        print(f"rfr: {message}" if message else FAULT, file=sys.stderr)
        return 2 if message else 1
    return 0


def remedy(error: Exception) -> str | None:
    """The line that tells the user what to mend; None where the error is a fault."""
    cause = _cause(error)
    if isinstance(cause, ModuleNotFoundError):
        missing = f"the module {cause.name} is missing, the installation is not whole: run `make setup`"
        return None if (cause.name or "").startswith("rfr") else missing
    if isinstance(cause, UserError) or _is_of_config(cause):
        return in_one_line(cause)
    if cause is not error and isinstance(cause, TypeError):  # a key that the class of a config does not know
        return in_one_line(cause)
    if type(cause) in (sqlite3.DatabaseError, sqlite3.OperationalError):  # the others are our mistakes
        return f"the store can't be used ({cause}): is it damaged, or locked by another program?"
    if isinstance(cause, OSError) and cause.errno in FULL:
        return f"{cause.strerror}: {cause.filename or 'an output'} could not be written whole"
    if isinstance(cause, OSError) and cause.errno in NO_PLACE and cause.filename:
        return f"{cause.strerror}: {printable(str(cause.filename))}"
    return None


def _is_of_config(error: Exception) -> bool:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return isinstance(error, HydraException | OmegaConfBaseException)


def in_one_line(error: Exception) -> str:
    """The message on one line; of errors that Hydra wraps, the cause."""
    message = str(_cause(error)).split("Config search path:")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    return printable("; ".join(lines).replace(":; ", ": "))


def _cause(error: Exception) -> Exception:
    """The error that a constructor raised, where Hydra has wrapped it."""
    wrapped = type(error).__name__ == "InstantiationException" and isinstance(error.__cause__, Exception)
    return error.__cause__ if wrapped else error  # type: ignore[return-value]

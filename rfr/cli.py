"""The four commands. Exit codes: 0 done, 2 the user's input is wrong (one line), 130 interrupted, 1 anything else.

Nothing heavy is imported before Hydra has answered `--help`, and nothing installed before an error can be told.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rfr.errors import Interrupted, RunFailed, UserError
from rfr.reddit.credentials import refuse_on_command_line

if TYPE_CHECKING:
    from omegaconf import DictConfig

INTERRUPTED = 130  # what shells report of a process that Ctrl-C ended
HERE = Path(__file__).resolve().parent
# In the wheel conf/ lies inside the package, in a clone beside it.
CONF = next(path for path in (HERE / "conf", HERE.parent / "conf") if path.is_dir())


def collect() -> None:
    """Console script: fill a store."""
    _command("collect", _collect)


def train() -> None:
    """Console script: train one run, or with -m a sweep."""
    _command("train", _train)


def generate() -> None:
    """Console script: stories from a policy."""
    # A prompt is text: Hydra would read "[WP] ..." as a list and "${...}" as a reference.
    prompts = [argument for argument in sys.argv[1:] if argument.startswith("prompt=")]
    sys.argv = [argument for argument in sys.argv if argument not in prompts]
    _command("generate", partial(_generate, [prompt.removeprefix("prompt=") for prompt in prompts]))


def evaluate() -> None:
    """Console script: judge a policy."""
    _command("evaluate", _evaluate)


def _collect(cfg: DictConfig) -> None:
    from rfr.collect import run

    run(cfg)


def _train(cfg: DictConfig) -> None:
    from rfr.jobs import run

    run(cfg)


def _generate(prompts: list[str], cfg: DictConfig) -> None:
    from rfr.assess import generate

    generate(cfg, prompts)


def _evaluate(cfg: DictConfig) -> None:
    from rfr.assess import evaluate

    evaluate(cfg)


def _help(name: str, overrides: list[str]) -> None:
    from rfr.help import show

    show(name, CONF, overrides)


def _command(name: str, task: Callable[[DictConfig], None]) -> None:
    """Compose the config, run the task (once per point of a sweep) and exit with the worst of its codes."""
    arguments = sys.argv[1:]
    if {"--help", "-h"} & set(arguments):
        sys.exit(exit_code(partial(_help, name, [argument for argument in arguments if "=" in argument])))
    if refused := exit_code(partial(refuse_on_command_line, arguments)):
        sys.exit(refused)
    sys.exit(max(_run(name, task)))


def _run(name: str, task: Callable[[DictConfig], None]) -> list[int]:
    """The exit codes of the command and of each point it ran."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `exit_code` instead of Hydra's own printing
    # A file, since a launcher may run the points in processes of its own.
    with tempfile.NamedTemporaryFile("r", prefix="rfr-codes-") as codes:
        told = codes.name

        def guarded(cfg: DictConfig) -> None:
            # Told here, a point's failure ends neither the sweep nor its table.
            code = exit_code(lambda: task(cfg))
            if code == INTERRUPTED or not os.path.exists(told):  # another machine's point can only tell its launcher
                raise SystemExit(code)
            with open(told, "a") as file:
                file.write(f"{code}\n")

        def main() -> None:
            import hydra

            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(guarded)()

        return [exit_code(main), *map(int, codes.read().split())]


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
        print(f"rfr: {failure}", file=sys.stderr)
        return failure.code
    except (UserError, ValueError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("RFR_DEBUG"):
            raise
        print(f"rfr: {_one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        print(f"rfr: {error.strerror}: {error.filename or 'an output'} could not be written whole", file=sys.stderr)
        return 2
    return 0


def _one_line(error: Exception) -> str:
    """The message on one line; of errors that Hydra wraps, the cause."""
    cause = error.__cause__ if type(error).__name__ == "InstantiationException" and error.__cause__ else error
    told = str(cause).split("Config search path:")[0]
    lines = [line.strip() for line in told.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    return "; ".join(lines).replace(":; ", ": ")

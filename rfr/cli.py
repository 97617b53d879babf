"""The console scripts of the four commands: compose the config, run the command, exit with its code.

Nothing heavy is imported before `--help` is answered, and nothing is installed before an error can be reported.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from rfr import __version__
from rfr.commands.help import print_help
from rfr.errors import as_user_error
from rfr.reddit.credentials import refuse_on_command_line
from rfr.utils.conf_folder import CONF
from rfr.utils.exits import INTERRUPTED, exit_code
from rfr.utils.openmp import bound_spinning

if TYPE_CHECKING:
    from omegaconf import DictConfig


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
    from rfr.commands.collect import run

    run(cfg)


def _train(cfg: DictConfig) -> float | None:
    from rfr.commands.train import run

    return run(cfg)


def _generate(prompts: list[str], cfg: DictConfig) -> None:
    from rfr.commands.generate import generate

    generate(cfg, prompts)


def _evaluate(cfg: DictConfig) -> None:
    from rfr.commands.evaluate import evaluate

    evaluate(cfg)


def _command(name: str, task: Callable[[DictConfig], float | None]) -> None:
    """Compose the config, run the task (once per point of a sweep) and exit with the worst of its codes."""
    arguments = sys.argv[1:]
    if refused := exit_code(partial(refuse_on_command_line, arguments)):
        sys.exit(refused)
    if "--version" in arguments:
        print(f"rfr {__version__}")
        sys.exit(0)
    if {"--help", "-h"} & set(arguments):
        sys.exit(exit_code(partial(print_help, name, [argument for argument in arguments if "=" in argument])))
    if unreadable := exit_code(partial(_require_readable, arguments)):
        sys.exit(unreadable)
    sys.exit(max(_run(name, task)))


def _require_readable(arguments: list[str]) -> None:
    from rfr.utils.overrides import require_readable

    require_readable(arguments, multirun=bool({"-m", "--multirun"} & set(arguments)))


def _naming_references(task: Callable[[DictConfig], float | None], cfg: DictConfig) -> float | None:
    """Run the task; a reference that leads nowhere is most likely a file's name."""
    from omegaconf.errors import InterpolationResolutionError

    from rfr.errors import UserError

    try:
        return task(cfg)
    except InterpolationResolutionError as error:
        if holding := [argument for argument in sys.argv[1:] if "${" in argument]:
            raise UserError(
                f"{holding[0]} holds ${{, with which Hydra refers to other keys: rename the file or the column"
            ) from error
        raise


def _run(name: str, task: Callable[[DictConfig], float | None]) -> list[int]:
    """The exit codes of the command and of each point it ran."""
    import rfr.config  # noqa: F401  # its resolvers: `--cfg job --resolve` asks for them before any command is imported

    bound_spinning()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `exit_code` instead of Hydra's own printing
    # The codes go through a file: a launcher may run the points in processes of its own.
    with tempfile.NamedTemporaryFile("r", prefix="rfr-codes-") as codes:
        codes_path = codes.name

        def guarded(cfg: DictConfig) -> float | None:
            # A point's error is printed here, so that it ends neither the sweep nor its table.
            result: list[float | None] = []
            code = exit_code(lambda: result.append(_naming_references(task, cfg)))
            if code == INTERRUPTED or not os.path.exists(codes_path):  # on another machine there is no such file
                # W&B's agent interrupts trials on purpose, and takes any code but 0 for a failure.
                raise SystemExit(0 if code == INTERRUPTED and "WANDB_SWEEP_ID" in os.environ else code)
            with open(codes_path, "a") as file:
                file.write(f"{code}\n")
            return result[0] if result else None

        def main() -> None:
            import hydra
            from yaml import YAMLError

            with as_user_error("a config can't be read", UnicodeDecodeError, YAMLError):
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(guarded)()

        return [exit_code(main), *map(int, codes.read().split())]

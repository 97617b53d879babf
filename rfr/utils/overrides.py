"""Reads key=value arguments by Hydra's grammar, and says how a refused value must be quoted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from rfr.errors import UserError


def require_readable(arguments: Iterable[str], *, multirun: bool) -> None:
    """
    Raises:
        UserError: Hydra's grammar refuses an argument, or takes a single value for several; the message ends in what to type.
    """
    for argument in arguments:
        key, is_override, value = argument.partition("=")
        if not is_override or argument.startswith("-"):
            continue
        override = _parsed(argument)
        if override is None:
            shown = _of_values(key, value.split(",")) if multirun else quoted(key, value)
            raise UserError(f"{argument} has characters that need quotes: type {shown}")
        if override.is_sweep_override() and not multirun:
            raise UserError(f"{argument} is several values, which -m sweeps over; for one value type {quoted(key, value)}")


def quoted(key: str, value: str) -> str:
    """The argument that gives a key this text, to be typed into a shell."""
    override = _parsed(f"{key}={value}")
    if override is not None and not override.is_sweep_override() and override.value() == value:
        return shlex.quote(f"{key}={value}")
    return _of_values(key, [value])


def _of_values(key: str, values: Iterable[str]) -> str:
    texts = (QuotedString(text=value, quote=Quote.double).with_quotes() for value in values)
    return shlex.quote(f"{key}={','.join(texts)}")


def _parsed(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None

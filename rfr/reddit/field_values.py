"""Parses single values for every source: a number, a flag, a time, a text or an id, also sent as text.

Raises (all functions):
    ValueError: the value is of another kind; the message has its name.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from rfr.records import Kind

# What pandas, csv and JSON write for an absent number, time or flag; a text may consist of it.
NOTHING = {"", "nan", "none", "null", "<na>", "nat"}
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
LARGEST = 2**63  # the first whole number that SQLite can't hold
DIGITS = len(str(LARGEST))
FLAGS = {"true": True, "1": True, "false": False, "0": False}
LATEST = 4_102_444_800  # Unix seconds: the year 2100. A time beyond it is in other units
PREFIXES: dict[str, Kind] = {"t1_": "reply", "t3_": "post"}  # of Reddit's full names
SHOWN_CHARACTERS = 60  # characters of a value in a message


def whole_number(value: Any, name: str) -> int | None:
    """A whole number that the store can hold."""
    if type(value) is int and -LARGEST <= value < LARGEST:
        return value
    if is_absent(value):
        return None
    number = _number(value)
    if number is None or number.adjusted() >= DIGITS or number != number.to_integral_value() or not -LARGEST <= number < LARGEST:
        raise _wrong(value, name, "no whole number")
    return int(number)


def flag(value: Any, name: str) -> bool:
    """True or false; absent is false."""
    if isinstance(value, bool):
        return value
    if is_absent(value):
        return False
    text = value.strip().lower() if isinstance(value, str) else str(int(value)) if _is_zero_or_one(value) else ""
    if text not in FLAGS:
        raise _wrong(value, name, "neither true nor false")
    return FLAGS[text]


def _is_zero_or_one(value: Any) -> bool:
    return isinstance(value, int | float) and value in (0, 1)


def time_of(value: Any, name: str) -> float | None:
    """Unix seconds, from a number of them, a date, or an ISO date with or without its time; without a zone it is UTC.

    Eight digits that form a date are read as a date: nobody wrote to Reddit in 1970.
    """
    if type(value) is int and 10**8 <= value < LATEST:
        return float(value)
    if is_absent(value):
        return None
    number = _number(value)
    moment = _date(str(value).strip()) if number is None else _eight_digits(number)
    if isinstance(value, date):  # a datetime is a date, too
        moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    time = math.nan if number is None or number.adjusted() > DIGITS else float(number)
    if moment is not None:
        with suppress(OverflowError, ValueError):
            time = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 <= time < LATEST:  # false for NaN, too
        raise _wrong(value, name, "no time in Unix seconds and no date")
    return time


def _date(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text.removesuffix(" UTC"))  # BigQuery writes dates so
    return None


def _eight_digits(number: Decimal) -> datetime | None:
    if not 10**7 <= number < 10**8 or number != number.to_integral_value():
        return None
    with suppress(ValueError):
        return datetime.strptime(str(int(number)), "%Y%m%d")
    return None


def text_of(value: Any, name: str) -> str | None:
    """A text that can be stored; what is empty stays empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise _wrong(value, name, "no text")
    return _storable(value)


def id_of(value: Any, name: str, kind: Kind) -> tuple[str, bool] | None:
    """A post's or reply's id, and whether its prefix (`t1_`, `t3_`) says that it is Reddit's; the prefix is no part of it."""
    if is_absent(value):
        return None
    # pandas makes whole numbers with gaps into floats
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, bool | list | dict) or not (text := _storable(text).strip()):
        raise _wrong(value, name, "no id")
    prefix, bare = text[:3].lower(), text[3:]
    if prefix not in PREFIXES:
        return text, False
    if PREFIXES[prefix] != kind or not bare:
        raise _wrong(value, name, f"no {kind}'s id")
    return bare.lower(), True


def is_absent(value: Any) -> bool:
    """Whether a cell that is no text holds nothing."""
    if isinstance(value, str):
        return value.strip().lower() in NOTHING
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def _number(value: Any) -> Decimal | None:
    """The exact number in a value; None if it has none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    if isinstance(value, str):
        text = value.strip()
        return Decimal(text) if NUMBER.fullmatch(text) else None
    if isinstance(value, int):
        return Decimal(value) if abs(value) < 10 ** (2 * DIGITS) else None
    return Decimal(value) if math.isfinite(value) else None


def _storable(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a character (a lone surrogate) in a text") from None
    return text


def _wrong(value: Any, name: str, what: str) -> ValueError:
    shown = f"{value[:SHOWN_CHARACTERS]!r}" if isinstance(value, str) else f"{_shown(value):.{SHOWN_CHARACTERS}}"
    return ValueError(f"{name} {shown} is {what}")


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # a number of thousands of digits
        return "of thousands of digits"

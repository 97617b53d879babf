"""Decodes HTML entities of any length."""

from __future__ import annotations

import html
import re

LONG_NUMBER = re.compile(r"&#([0-9]{8,});?")
MOST_DIGITS = 7  # of a Unicode character's number
REPLACEMENT = "\ufffd"


def unescape(text: str) -> str:
    """`html.unescape`, which would raise at a number of thousands of digits: it stands for no character, as 1114112 does."""
    return html.unescape(LONG_NUMBER.sub(_character, text)) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    digits = entity[1].lstrip("0")
    return REPLACEMENT if len(digits) > MOST_DIGITS else html.unescape(f"&#{digits or 0};")

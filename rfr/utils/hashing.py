"""Short hashes of settings, for the names of runs and cached folders."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any


def key_of(*parts: Any) -> str:
    """A short hash of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def describe(settings: Any) -> Any:
    """A dataclass of settings, and those in it, as JSON-able class names and values; any other value as it is."""
    if not is_dataclass(settings) or isinstance(settings, type):
        return settings
    values = {field.name: describe(getattr(settings, field.name)) for field in fields(settings)}
    return {"class": type(settings).__name__, **values}

"""Records as Arrow tables: the one place that knows the columns of each."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pyarrow takes a while to import
    import pyarrow as pa


def schema_of(record: type, **more: str) -> pa.Schema:
    """The columns of a record; `more` names further ones and their types, such as `reason="str | None"`."""
    import pyarrow as pa

    types = {"str": pa.string(), "Kind": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    columns = {field.name: str(field.type) for field in fields(record)} | more
    return pa.schema([pa.field(name, types[annotation.removesuffix(" | None")]) for name, annotation in columns.items()])

"""How a record enters the store: readings are appended, texts replace older ones, what was erased stays out."""

from __future__ import annotations

from dataclasses import fields

from rfr.records import Observation, Post, Reply

ERASED = "SELECT 1 FROM tombstone WHERE item_id = :id"


def table_of(record: type) -> str:
    return record.__name__.lower()


def _insertion(record: type) -> str:
    """The statement that adds a row of this record."""
    names = [field.name for field in fields(record)]
    into = f"INTO {table_of(record)} ({', '.join(names)})"
    values = ", ".join(f":{name}" for name in names).replace(":author", f"CASE WHEN EXISTS ({ERASED}) THEN NULL ELSE :author END")
    if record is Observation:
        return f"INSERT OR IGNORE {into} VALUES ({values})"
    rank = ["seen_at", *(name for name in names if name not in ("id", "seen_at"))]
    new, old = (", ".join(f"ifnull({side}.{name}, {-1 if name == 'seen_at' else chr(39) * 2})" for name in rank)
                for side in ("excluded", table_of(record)))  # fmt: skip
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name != "id")
    return (
        f"INSERT {into} SELECT {values} WHERE NOT EXISTS ({ERASED} AND reason = 'text') "
        f"ON CONFLICT (id) DO UPDATE SET {updates} WHERE ({new}) > ({old})"
    )


INSERTIONS = {record: _insertion(record) for record in (Post, Reply, Observation)}

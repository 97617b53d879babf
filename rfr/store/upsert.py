"""How a record enters the store: readings are appended, newer texts replace older ones, erased ones stay out.

The better of two versions of a text stays: first the one whose source knows that it was deleted later, then one that knows its
author and its time (a table may know neither), then the one read later, then a placeholder for a lost text, then the greater
content. Any rule would do that does not depend on the order of arrival.
"""

from __future__ import annotations

from dataclasses import fields

from rfr.records import DELETED, Observation, Post, Reply

TIMES = {"created_utc", "seen_at"}
FIRST = ("id", "seen_at", "deleted")  # compared before the rest, or not at all


def table_of(record: type) -> str:
    return record.__name__.lower()


def _upsert_statement(record: type) -> str:
    """The statement that adds a row of this record."""
    names = [field.name for field in fields(record)]
    into = f"INTO {table_of(record)} ({', '.join(names)})"
    values = ", ".join(f":{name}" for name in names)
    if record is Observation:
        return f"INSERT OR IGNORE {into} VALUES ({values})"
    erased = f"SELECT 1 FROM tombstone WHERE kind = '{table_of(record)}' AND item_id = :id"
    values = values.replace(":author", f"CASE WHEN EXISTS ({erased}) THEN '{DELETED}' ELSE :author END")
    new, old = (_rank(side, names) for side in ("excluded", table_of(record)))
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name != "id")
    return (
        f"INSERT {into} SELECT {values} WHERE NOT EXISTS ({erased} AND reason = 'text') "
        f"ON CONFLICT (id) DO UPDATE SET {updates} WHERE ({new}) > ({old})"
    )


def _rank(side: str, names: list[str]) -> str:
    known = [f"{side}.{name} IS NOT NULL" for name in ("author", "created_utc")]
    values = [f"ifnull({side}.{name}, {-1 if name in TIMES else chr(39) * 2})" for name in names if name not in FIRST]
    return ", ".join([f"{side}.deleted", *known, f"ifnull({side}.seen_at, -1)", f"is_gone({side}.body)", *values])


INSERTIONS = {record: _upsert_statement(record) for record in (Post, Reply, Observation)}

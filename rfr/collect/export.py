"""`mode=export`: writes a store as Parquet files, sorted by key, so that equal stores give equal files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from more_itertools import chunked

from rfr.records import Observation, Post, Reply
from rfr.store.store import Store
from rfr.utils.arrow import schema_of
from rfr.utils.files import new_file

ROWS = 1 << 16  # held in memory; they become a row group
ORDER = {
    Post: "post ORDER BY id",
    Reply: "reply ORDER BY post_id, id",
    Observation: "observation ORDER BY kind, item_id, seen_at, import_number, source, score, "
    "hidden, missing, archived, num_comments",
}
EXPORTS = "exports"  # name of the cursor that lists the folders of exports, for a purge


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write post.parquet, reply.parquet and observation.parquet into `folder`; the store remembers where they are."""

    folder: str | None  # None: beside the store, named after it

    def run(self, source: Any, path: Path, report: Any) -> dict[str, Any]:
        Store(path).close()  # raises where there is no store; opening it for writing would make one
        folder = path.with_name(f"{path.stem}-parquet") if self.folder is None else Path(str(self.folder))
        folder.mkdir(parents=True, exist_ok=True)
        with Store(path, write=True) as store:
            remember(store, folder)
            write(store, folder)
            return {"folder": str(folder), **store.counts()}


def remember(store: Store, folder: Path) -> None:
    with store.transaction():
        store.set_cursor(EXPORTS, json.dumps(sorted({*export_folders(store), str(folder.resolve())})))


def export_folders(store: Store) -> list[str]:
    """The folders this store was exported to."""
    return json.loads(store.cursor(EXPORTS) or "[]")


def write(store: Store, folder: Path) -> None:
    """All three tables; each file appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for record, clause in ORDER.items():
        schema = schema_of(record)
        table_path = folder / f"{record.__name__.lower()}.parquet"
        with new_file(table_path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for rows in chunked(map(asdict, store.select(record, clause)), ROWS):
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))

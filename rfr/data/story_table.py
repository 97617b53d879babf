"""The stories of a split as an Arrow file: written in batches, read through a memory map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from rfr.records import Story
from rfr.utils.arrow import schema_of

COLUMNS = schema_of(Story)


class StoryTable(Sequence[Story]):
    """All stories of a split; those of a thread follow one another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def __len__(self) -> int:
        return self._table.num_rows

    @overload
    def __getitem__(self, index: int) -> Story: ...
    @overload
    def __getitem__(self, index: slice) -> list[Story]: ...
    def __getitem__(self, index: int | slice) -> Story | list[Story]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return Story(**self._table.slice(index % len(self), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Story]:
        for batch in self._table.to_batches():
            yield from (Story(**row) for row in batch.to_pylist())

    def __reduce__(self) -> tuple[type[StoryTable], tuple[Path]]:
        return StoryTable, (self._path,)

    def column(self, name: str) -> np.ndarray:
        """One field of all stories."""
        return self._table[name].to_numpy()


class Threads(Sequence[list[Story]]):
    """The stories of a split by thread, in the table's order."""

    def __init__(self, stories: StoryTable) -> None:
        self._stories = stories
        ids = stories.column("thread_id")
        self._starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> list[Story]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Story]]: ...
    def __getitem__(self, index: int | slice) -> list[Story] | list[list[Story]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        ends = np.append(self._starts[1:], len(self._stories))
        return self._stories[int(self._starts[index]) : int(ends[index])]

    def __iter__(self) -> Iterator[list[Story]]:
        return (list(group) for _, group in groupby(self._stories, key=lambda story: story.thread_id))


@contextmanager
def writing(path: Path, schema: pa.Schema = COLUMNS) -> Iterator[Any]:
    """A function that appends a list of rows to a new Arrow file."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:

        def write(rows: list[dict[str, Any]]) -> None:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))

        yield write


def column(path: Path, name: str) -> np.ndarray:
    """One column of an Arrow file."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()[name].to_numpy()


def read_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The batches of an Arrow file, each as rows."""
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        for index in range(file.num_record_batches):
            yield file.get_batch(index).to_pylist()

"""Turns a row of a table into records, by a mapping from our fields to its columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rfr.records import NOT_REDDITS, Kind, Observation, Post, Reply
from rfr.reddit.field_values import id_of, text_of, time_of, whole_number

SOURCE = "table"
Ids = Literal["own", "reddit"]


@dataclass(frozen=True, kw_only=True)
class Story:
    """One reply of a row: our fields, and where the row is a whole thread what is said in all of it."""

    fields: Mapping[str, Any]
    thread: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class TableRecords:
    """How the rows of a table become records.

    Args:
        columns: from rfr's field to the table's column.
        seen_at: Unix seconds at which the scores were read, None if unknown.
        ids: who made the ids without a prefix (t1_, t3_).
        import_number: the number that readings without a time get.
    """

    columns: Mapping[str, str]
    subreddit: str
    seen_at: float | None
    ids: Ids
    import_number: int | None

    def stories(self, cells: Mapping[str, Any]) -> Iterator[Story]:
        """One per reply: a row whose columns hold lists (a thread with all its replies) is unrolled.

        Raises:
            ValueError: the lists differ in length.
        """
        row = self.mapped(cells)
        lists = {name: value for name, value in row.items() if isinstance(value, list)}
        if not lists:
            yield Story(fields=row)
            return
        if len({len(values) for values in lists.values()}) > 1:
            lengths = ", ".join(f"{self.columns[name]}: {len(values)}" for name, values in lists.items())
            raise ValueError(f"lists of different lengths ({lengths})")
        thread = tuple(str(value) for name in ("title", "body") for value in lists.get(name, [row.get(name)]))
        for values in zip(*lists.values(), strict=True):
            yield Story(fields={**row, **dict(zip(lists, values, strict=True))}, thread=thread)

    def mapped(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Our fields of a row; a column that it does not have is left out."""
        return {name: cells[column] for name, column in self.columns.items() if column in cells}

    def records(self, story: Story) -> list[Post | Reply | Observation]:
        """A post, a reply to it, and a reading of each score that is known.

        Raises:
            ValueError: a cell makes no sense; the message names its column.
        """
        title, body = self._text(story, "title"), self._text(story, "body") or ""
        if not title:
            raise ValueError(f"no {self.columns['title']}")
        post_id = self._id(story, "post", *(story.thread or (title,)))
        # In a whole thread the post's id is part of the reply's; elsewhere equal texts under equal titles are one reply.
        reply_id = self._id(story, "reply", post_id if story.thread else title, body)
        post = Post(
            id=post_id,
            subreddit=self.subreddit,
            title=title,
            body=self._text(story, "post_body") or "",
            seen_at=self.seen_at,
            created_utc=self._time(story, "post_created_utc"),
        )
        reply = Reply(
            id=reply_id,
            post_id=post_id,
            body=body,
            author=self._text(story, "author") or None,
            created_utc=self._time(story, "created_utc"),
            seen_at=self.seen_at,
        )
        readings = (self._reading(story, "post", post_id, "post_score"), self._reading(story, "reply", reply_id, "score"))
        return [post, reply, *filter(None, readings)]

    def _reading(self, story: Story, kind: Kind, item_id: str, name: str) -> Observation | None:
        score = whole_number(story.fields.get(name), self._column(name))
        return (
            None
            if score is None
            else Observation(
                kind=kind, item_id=item_id, seen_at=self.seen_at, source=SOURCE, score=score, import_number=self.import_number
            )
        )

    def _text(self, story: Story, name: str) -> str | None:
        return text_of(story.fields.get(name), self._column(name))

    def _time(self, story: Story, name: str) -> float | None:
        return time_of(story.fields.get(name), self._column(name))

    def _id(self, story: Story, kind: Kind, *content: str) -> str:
        name = f"{kind}_id"
        given = id_of(story.fields.get(name), self._column(name), kind)
        if given is None:
            return NOT_REDDITS + hashlib.sha256("\0".join(content).encode()).hexdigest()[:12]
        own, is_full_name = given
        if is_full_name or self.ids == "reddit":
            return own.lower()
        return own if own.startswith(NOT_REDDITS) else NOT_REDDITS + own

    def _column(self, name: str) -> str:
        return self.columns.get(name, name)

"""Imports monthly dumps (RS_*, RC_*): the lines of one subreddit, every line counted, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from rfr.collect.files.decompress import BOM, chunks
from rfr.collect.files.line_search import Block, blocks_with
from rfr.errors import UserError
from rfr.records import Kind, Observation, Post, Reply
from rfr.reddit.field_values import time_of
from rfr.reddit.parse import Json, to_observation, to_post, to_reply, validated
from rfr.store.store import Origin, Store

SOURCE = "dump"
MARKS = "dump/"  # prefix of the cursors that hold how far each file was imported
COMMIT_BYTES = 256 << 20  # decompressed bytes per transaction: half a second of work, which a kill costs
Records = list[Post | Reply | Observation]


class Reject(ValueError):
    """A line that names the subreddit and can't be used; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class ImportState:
    """How far a file was imported: read = kept + filtered + rejected, always."""

    offset: int = 0  # decompressed bytes up to the end of the last committed line
    read: int = 0
    kept: int = 0
    filtered: int = 0
    rejected: int = 0
    done: bool = False
    file: str = ""  # its path when it was read
    first_reject: str = ""  # where it stands, and the reason

    def __post_init__(self) -> None:
        assert self.read == self.kept + self.filtered + self.rejected


def import_dump(
    store: Store, path: str | Path, subreddit: str, progress: Callable[[ImportState], None] = lambda _: None
) -> ImportState:
    """Import one file. Started again it goes on behind the last commit; a finished file is not read again.

    Raises:
        UserError: no such file, or no dump, or one of which every line is rejected.
        Damaged: the file is cut off or broken; the lines that were committed before are in the store.
    """
    path = Path(path)
    name = fingerprint(path)
    state = ImportState(**json.loads(store.cursor(_mark(subreddit, name)) or "{}"))
    if state.done:
        return state
    state = replace(state, file=path.name)
    blocks = blocks_with(subreddit.encode(), chunks(path), skip=state.offset)
    while not state.done:
        state = _commit_some(store, blocks, state, subreddit, name, path)
        progress(state)
    return state


def fingerprint(path: Path) -> str:
    """A file's identity by its size and its ends, whatever it is called and wherever it lies.

    Raises:
        UserError: no such file.
    """
    if not path.is_file():
        raise UserError(f"no dump at {path}: set source.path to an RS_ or RC_ file (.zst, .xz, .bz2, .gz or plain)")
    size, end = path.stat().st_size, 1 << 20
    sha = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        sha.update(file.read(end))
        file.seek(max(0, size - end))
        sha.update(file.read(end))
    return sha.hexdigest()[:16]


def _mark(subreddit: str, name: str) -> str:
    return f"{MARKS}{subreddit}/{name}"


def _commit_some(store: Store, blocks: Iterator[Block], state: ImportState, subreddit: str, name: str, path: Path) -> ImportState:
    """The next COMMIT_BYTES of blocks and how far they went, in one transaction; decoding goes on meanwhile.

    Raises:
        UserError: no line of the whole file can be used.
        Damaged: none of these lines was kept: the data just before the damage can't be trusted.
    """
    start, dump_path = state.offset, str(path.resolve())
    with store.transaction():
        if start == 0:
            store.forget_rejects(Origin(SOURCE, dump_path))  # of another file that had this path
        for block in blocks:
            state = _import(store, block, state, subreddit, dump_path)
            if block.end - start >= COMMIT_BYTES:
                break
        else:
            state = replace(state, done=True)
            if state.read and state.rejected == state.read:
                raise UserError(f"every line of {path} ({state.read:,}) is rejected; {state.first_reject}")
        store.set_cursor(_mark(subreddit, name), json.dumps(asdict(state)))
    return state


def _import(store: Store, block: Block, state: ImportState, subreddit: str, dump_path: str) -> ImportState:
    """The records and rejects of a block, and the account of its lines."""
    kept, rejects = 0, [(offset, line, "longer than any of Reddit's lines") for offset, line in block.too_long]
    for offset, line in block.hits:
        try:
            records = to_records(line, subreddit)
        except Reject as error:
            rejects.append((offset, line, str(error)))
        else:
            store.add(records)
            kept += bool(records)
    for offset, line, reason in rejects:
        store.reject(Origin(SOURCE, dump_path), offset, reason, line)
    first = state.first_reject or (f"byte {min(rejects)[0]:,}: {min(rejects)[2]}" if rejects else "")
    return replace(
        state,
        offset=block.end,
        read=state.read + block.lines,
        kept=state.kept + kept,
        rejected=state.rejected + len(rejects),
        filtered=state.filtered + block.lines - kept - len(rejects),
        first_reject=first,
    )


def missing_posts(store: Store) -> str | None:
    """A sentence about replies whose posts never came in, and the files of posts that are missing; None where there are none.

    Submissions (RS_) and comments (RC_) come in files of their own.
    """
    lacking = store.replies_without_post()
    if not lacking:
        return None
    names = {json.loads(value)["file"] for (value,) in store.rows("SELECT value FROM cursor WHERE name LIKE ? || '%'", (MARKS,))}
    wanted = sorted(
        {name.replace("RC_", "RS_").split(".")[0] for name in names if name.startswith("RC_")}
        - {name.split(".")[0] for name in names}
    )
    shown = ", ".join(wanted) if wanted else "the RS_ file (submissions) of the same month"
    replies = store.counts()["reply"]
    return f"{lacking:,} of {replies:,} replies lack their posts, so nothing can be learnt from them: import {shown} too"


def to_records(line: bytes, subreddit: str) -> Records:
    """The records of a line; none for another subreddit's, or a reply to a reply.

    Raises:
        Reject: the line is no JSON, or lacks a field that rfr needs.
    """
    data = _parsed(line)
    if not isinstance(data, dict):
        raise Reject("no JSON object")
    if str(data.get("subreddit", "")).casefold() != subreddit.casefold():
        return []
    try:
        return _records(data)
    except (KeyError, TypeError, ValueError) as error:
        raise Reject(str(error)) from None


def _parsed(line: bytes) -> Any:
    """
    Raises:
        Reject: it is no JSON. NaN, which pandas writes for nothing, is null; the infinities are no numbers.
    """
    line = line.removeprefix(BOM)
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in line:
            raise Reject(f"no JSON: {error}") from None
    try:
        return json.loads(line, parse_constant=_nothing)
    except (ValueError, RecursionError) as error:
        raise Reject(f"no JSON: {error}") from None


def _nothing(constant: str) -> None:
    if constant != "NaN":
        raise ValueError(f"{constant} is no number")


def _records(data: Json) -> Records:
    kind: Kind = "post" if data.get("title") is not None else "reply"
    seen_at, data = _retrieved(data), validated(data, kind)
    reading = to_observation(data, seen_at, SOURCE)
    if kind == "post":
        return [to_post(data, seen_at), reading]
    reply = to_reply(data, seen_at)
    return [] if reply is None else [reply, reading]


def _retrieved(data: Json) -> float | None:
    """When the score was read; of two times the later one, which is when it was read again."""
    meta = data.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    read = {
        "retrieved_2nd_on": meta.get("retrieved_2nd_on"),
        **{name: data.get(name) for name in ("retrieved_on", "retrieved_utc")},
    }
    times = [time_of(value, name) for name, value in read.items()]
    return max((time for time in times if time is not None), default=None)

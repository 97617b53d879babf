"""The store's tables, and the steps from each older version to this one."""

from __future__ import annotations

import sqlite3

FIRST = """
CREATE TABLE post (
    id TEXT PRIMARY KEY, subreddit TEXT NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL, author TEXT,
    created_utc REAL, flair TEXT, stickied INTEGER NOT NULL, distinguished TEXT
) WITHOUT ROWID;
CREATE TABLE reply (
    id TEXT PRIMARY KEY, post_id TEXT NOT NULL, body TEXT NOT NULL, author TEXT,
    created_utc REAL, stickied INTEGER NOT NULL, distinguished TEXT
) WITHOUT ROWID;
CREATE INDEX reply_by_post ON reply (post_id, id);
CREATE TABLE observation (
    item_id TEXT NOT NULL, seen_at REAL, source TEXT NOT NULL, score INTEGER, hidden INTEGER NOT NULL
);
CREATE UNIQUE INDEX observation_once ON observation (item_id, ifnull(seen_at, -1), source);
CREATE TABLE cursor (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# Texts carry the time they were read, so that the newest wins in whatever order they arrive; readings say more than a
# score; what was lost (gap), refused (reject) or erased (tombstone) is on record.
SECOND = """
ALTER TABLE post ADD COLUMN seen_at REAL;
ALTER TABLE reply ADD COLUMN seen_at REAL;
ALTER TABLE observation ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE observation ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE observation ADD COLUMN num_comments INTEGER;
DROP INDEX observation_once;
CREATE UNIQUE INDEX observation_once ON observation (
    item_id, ifnull(seen_at, -1), source, ifnull(score, ''), hidden, missing, archived, ifnull(num_comments, '')
);
CREATE TABLE gap (listing TEXT NOT NULL, after_utc REAL NOT NULL, before_utc REAL NOT NULL, noticed_at REAL NOT NULL);
CREATE TABLE reject (
    source TEXT NOT NULL, offset INTEGER NOT NULL, reason TEXT NOT NULL, line BLOB NOT NULL, PRIMARY KEY (source, offset)
) WITHOUT ROWID;
CREATE TABLE tombstone (item_id TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
"""
# What a text was before it was deleted, until a purge has looked for it in the files made from the store.
GONE = "'[deleted]', '[removed]', '[ Removed by Reddit ]', '[deleted by user]'"

TRACED = (
    ("post", "title", "text"),
    ("post", "body", "text"),
    ("post", "author", "author"),
    ("reply", "body", "text"),
    ("reply", "author", "author"),
)


def _residue_trigger(table: str, column: str, kind: str) -> str:
    return f"""
CREATE TRIGGER {table}_{column} AFTER UPDATE OF {column} ON {table}
WHEN OLD.{column} IS NOT NULL AND OLD.{column} != '' AND OLD.{column} NOT IN ({GONE})
    AND (NEW.{column} IS NULL OR NEW.{column} IN ({GONE}))
BEGIN INSERT OR IGNORE INTO residue VALUES (OLD.id, '{kind}', OLD.{column}); END;
"""


THIRD = """
CREATE TABLE residue (
    item_id TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (item_id, kind, text)
) WITHOUT ROWID;
""" + "".join(_residue_trigger(table, column, kind) for table, column, kind in TRACED)
# A text that was edited is gone from Reddit too: a purge looks for its earlier versions in the files.
FOURTH = "".join(
    f"""
DROP TRIGGER {table}_{column};
CREATE TRIGGER {table}_{column} AFTER UPDATE OF {column} ON {table}
WHEN OLD.{column} != '' AND OLD.{column} NOT IN ({GONE}) AND NEW.{column} IS NOT OLD.{column}
    AND ('{kind}' = 'text' OR NEW.{column} IN ({GONE}))
BEGIN
    INSERT OR IGNORE INTO residue
    SELECT OLD.id, CASE WHEN NEW.{column} IN ({GONE}) THEN '{kind}' ELSE 'edited' END, OLD.{column};
END;
"""
    for table, column, kind in TRACED
)
# The ids of posts and of replies are two name spaces; a source may say that a text was deleted after it was read; readings
# without a time have the number of their import; a reject has the path and the columns it was read with; and whatever asks
# whether a text is gone asks `records.is_gone`, which the store makes known to SQLite.
_KIND_OF = "CASE WHEN item_id IN (SELECT id FROM reply) AND item_id NOT IN (SELECT id FROM post) THEN 'reply' ELSE 'post' END"
FIFTH = (
    "".join(f"ALTER TABLE {table} ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;" for table in ("post", "reply"))
    + "".join(f"DROP TRIGGER {table}_{column};" for table, column, _ in TRACED)
    + f"""
ALTER TABLE observation RENAME TO earlier_observation;
DROP INDEX observation_once;
CREATE TABLE observation (
    kind TEXT NOT NULL, item_id TEXT NOT NULL, seen_at REAL, source TEXT NOT NULL, score INTEGER, hidden INTEGER NOT NULL,
    missing INTEGER NOT NULL, archived INTEGER NOT NULL, num_comments INTEGER, import_number INTEGER
);
INSERT INTO observation SELECT {_KIND_OF}, item_id, seen_at, source, score, hidden, missing, archived, num_comments, NULL
    FROM earlier_observation;
DROP TABLE earlier_observation;
CREATE UNIQUE INDEX observation_once ON observation (
    item_id, kind, ifnull(seen_at, -1), source, ifnull(score, ''), hidden, missing, archived, ifnull(num_comments, ''),
    ifnull(import_number, '')
);
CREATE TABLE kept_tombstone (
    kind TEXT NOT NULL, item_id TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (item_id, kind)
) WITHOUT ROWID;
INSERT INTO kept_tombstone SELECT {_KIND_OF}, item_id, reason FROM tombstone;
DROP TABLE tombstone;
ALTER TABLE kept_tombstone RENAME TO tombstone;
CREATE TABLE kept_residue (
    kind TEXT NOT NULL, item_id TEXT NOT NULL, part TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (kind, item_id, part, text)
) WITHOUT ROWID;
INSERT INTO kept_residue SELECT {_KIND_OF}, item_id, kind, text FROM residue;
DROP TABLE residue;
ALTER TABLE kept_residue RENAME TO residue;
CREATE TABLE kept_reject (
    source TEXT NOT NULL, file TEXT NOT NULL, columns TEXT NOT NULL, offset INTEGER NOT NULL, part INTEGER NOT NULL,
    reason TEXT NOT NULL, line BLOB NOT NULL, PRIMARY KEY (source, file, columns, offset, part)
) WITHOUT ROWID;
INSERT INTO kept_reject SELECT source, '', '', offset, 0, reason, line FROM reject;
DROP TABLE reject;
ALTER TABLE kept_reject RENAME TO reject;
"""
    + "".join(
        f"""
CREATE TRIGGER {table}_{column} AFTER UPDATE OF {column} ON {table}
WHEN OLD.{column} != '' AND NOT is_gone(OLD.{column}) AND NEW.{column} IS NOT OLD.{column}
    AND ('{part}' = 'text' OR is_gone(NEW.{column}))
BEGIN
    INSERT OR IGNORE INTO residue
    SELECT '{table}', OLD.id, CASE WHEN is_gone(NEW.{column}) THEN '{part}' ELSE 'edited' END, OLD.{column};
END;
"""
        for table, column, part in TRACED
    )
)
STEPS = (FIRST, SECOND, THIRD, FOURTH, FIFTH)
VERSION = len(STEPS)


def version_of(db: sqlite3.Connection) -> int | None:
    """The schema's version, 0 for an empty file, None for a database that is no store."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    foreign = version <= VERSION and tables and (version == 0 or "observation" not in tables)
    return None if foreign else version


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Up to the present version, one transaction per step; an empty file starts from nothing."""
    for number, step in enumerate(STEPS[version:], start=version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version={number}; COMMIT;")

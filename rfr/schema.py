"""The store's tables, and the way from each older version to the present one."""

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
    ("post", "title", "text"), ("post", "body", "text"), ("post", "author", "author"),
    ("reply", "body", "text"), ("reply", "author", "author"),
)  # fmt: skip


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
STEPS = (FIRST, SECOND, THIRD, FOURTH)
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

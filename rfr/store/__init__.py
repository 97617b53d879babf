"""The store: an append-only ledger in SQLite."""

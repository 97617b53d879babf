"""Filling a store, and what is done with one; `conf/source/` and `conf/mode/` name the parts."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "export": ["Export"],
        "files.table_source": ["TableSource"],
        "modes": ["Backfill", "Once", "Refresh", "Watch"],
        "purge": ["Purge"],
        "shards": ["MergeShards"],
        "sources": ["DumpSource", "RedditSource"],
        "status": ["Status"],
    },
)

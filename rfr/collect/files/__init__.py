"""Dumps and tables: files read into a store."""

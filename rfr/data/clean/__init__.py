"""Cleaning: from Reddit's markdown to a story as it would be read aloud."""

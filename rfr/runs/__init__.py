"""Folders of runs and what is in them."""

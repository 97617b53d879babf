"""Rewards From Reddit: learning to write from the karma that strangers give."""

__version__ = "0.1.0"

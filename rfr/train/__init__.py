"""One training run: its settings."""

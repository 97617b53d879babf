"""One training run, from its recipe to its result."""

"""Tools that know nothing of Reddit, of data and of models."""

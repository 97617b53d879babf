"""Fitting and packing stories into rows."""

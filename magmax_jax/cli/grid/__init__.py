"""Grids of experiments: the paper's, run cell by cell."""

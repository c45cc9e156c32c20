"""Recipes compared over many runs: where each task starts, which rule merges, at which scale."""

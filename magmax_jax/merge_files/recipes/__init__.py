"""Merges described by mergekit's YAML recipes."""

"""Numerics shared by merge rules: exact order statistics, reductions, replication."""

"""Numerics that merge rules share: exact order statistics, reductions, replication."""

"""Task vectors and merge rules: pure maths on pytrees, knowing nothing of models, data or files."""

from magmax_jax.merging import rules
from magmax_jax.merging.merge import fold, merge, merged
from magmax_jax.merging.rule import MergeRule
from magmax_jax.merging.selection import kth_magnitude, kth_magnitude_streamed
from magmax_jax.merging.task_vectors import (
    apply_task_vector,
    check_alike,
    check_finite,
    task_vector,
)

__all__ = [
    "MergeRule",
    "apply_task_vector",
    "check_alike",
    "check_finite",
    "fold",
    "kth_magnitude",
    "kth_magnitude_streamed",
    "merge",
    "merged",
    "rules",
    "task_vector",
]

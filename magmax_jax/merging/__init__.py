"""Task vectors and merge rules: pure maths on pytrees, knowing nothing of models, data or files."""

from magmax_jax.merging import rules
from magmax_jax.merging.merge import fold, merge, merged
from magmax_jax.merging.numerics.selection import (
    count_at_least,
    kth_magnitude,
    kth_magnitudes_counted,
)
from magmax_jax.merging.rule import MergeRule, State
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.merging.task_vectors import (
    apply_task_vector,
    check_alike,
    check_finite,
    is_merged,
    task_vector,
)

__all__ = [
    "MergeRule",
    "State",
    "TaskVectors",
    "apply_task_vector",
    "check_alike",
    "check_finite",
    "count_at_least",
    "fold",
    "is_merged",
    "kth_magnitude",
    "kth_magnitudes_counted",
    "merge",
    "merged",
    "rules",
    "task_vector",
]

"""Task vectors and merge rules: pure maths on pytrees, independent of models, data and files.

The user-facing API is in `magmax_jax` and `magmax_jax.rules`; the rest here is for rule authors.
"""

from magmax_jax.merging import rules
from magmax_jax.merging.merge import fold, merge, merged, merged_at
from magmax_jax.merging.numerics.reductions import squared_norm
from magmax_jax.merging.numerics.selection import (
    count_at_least,
    kth_magnitude,
    kth_magnitudes_counted,
)
from magmax_jax.merging.rule import (
    Informed,
    MergeRule,
    Settle,
    State,
    collecting,
    factory,
    leaf_key,
    leaf_name,
    leafwise,
    leafwise_at,
)
from magmax_jax.merging.rules import register
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.merging.task_vectors import (
    apply_task_vector,
    check_alike,
    check_finite,
    is_merged,
    task_vector,
)

__all__ = [
    "Informed",
    "MergeRule",
    "Settle",
    "State",
    "TaskVectors",
    "apply_task_vector",
    "check_alike",
    "check_finite",
    "collecting",
    "count_at_least",
    "factory",
    "fold",
    "is_merged",
    "kth_magnitude",
    "kth_magnitudes_counted",
    "leaf_key",
    "leaf_name",
    "leafwise",
    "leafwise_at",
    "merge",
    "merged",
    "merged_at",
    "register",
    "rules",
    "squared_norm",
    "task_vector",
]

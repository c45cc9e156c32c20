"""Task vectors and merge rules: pure maths on pytrees, knowing nothing of models, data or files."""

from magmax_jax.merging import rules
from magmax_jax.merging.merge import fold, merge, merged
from magmax_jax.merging.rules import MergeRule
from magmax_jax.merging.task_vectors import apply_task_vector, task_vector

__all__ = ["MergeRule", "apply_task_vector", "fold", "merge", "merged", "rules", "task_vector"]

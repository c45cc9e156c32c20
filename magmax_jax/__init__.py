"""Continual learning by model merging: MagMax for CLIP, in JAX and Flax."""

from magmax_jax.merging import MergeRule, apply_task_vector, merge, rules, task_vector
from magmax_jax.models import CLIP

__all__ = ["CLIP", "MergeRule", "apply_task_vector", "merge", "rules", "task_vector"]

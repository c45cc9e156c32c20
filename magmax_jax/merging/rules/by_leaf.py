"""A rule whose options differ from leaf to leaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magmax_jax.merging.numerics.over_tasks import EachTask
from magmax_jax.merging.rule import Collected, MergeRule, collecting, leafwise_collected
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.packages.lazy_jax import jax


def by_leaf(build: Callable[[str], MergeRule], default_scale: float = 1.0) -> MergeRule:
    """Merges every leaf with its own rule. State: theta_0 and all task vectors.

    Args:
      build: a leaf's name -> its rule, which needs nothing from other leaves.
    """

    def merge(name: Any, theta_0: jax.Array, taus: EachTask) -> jax.Array:
        rule = build(str(name))
        if rule.of_stack and isinstance(taus, jax.Array):
            return rule.finalize(rule.of_stack({name: theta_0}, {name: taus}))[name]
        state = rule.init({name: theta_0})
        for task in range(len(taus)):
            state = rule.update(state, {name: taus[task]})
        return rule.finalize(state)[name]

    def finalize(state: Collected) -> PyTree:
        return leafwise_collected(merge, state, with_theta_0=True)

    return collecting(finalize, default_scale, with_theta_0=True, stacks=True, scope="tensor")

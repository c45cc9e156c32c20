"""A rule whose options differ from leaf to leaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magmax_jax.merging.rule import MergeRule, State, collecting, leafwise_at
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.packages.lazy_jax import jax


def by_leaf(build: Callable[[str], MergeRule], default_scale: float = 1.0) -> MergeRule:
    """Merges every leaf with its own rule. State: theta_0 and all task vectors.

    Args:
      build: a leaf's name -> its rule, which needs nothing from other leaves.
    """

    def merge(name: Any, theta_0: jax.Array, *taus: jax.Array) -> jax.Array:
        rule = build(str(name))
        state = rule.init({name: theta_0})
        for tau in taus:
            state = rule.update(state, {name: tau})
        return rule.finalize(state)[name]

    def finalize(state: State) -> PyTree:
        return leafwise_at(merge, *state)

    return collecting(finalize, default_scale, with_theta_0=True, scope="tensor")

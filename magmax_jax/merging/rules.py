"""Merge rules: how the task vectors tau_1 ... tau_T become one.

A rule is a value in the shape of optax's transformations. Its state is a pytree of arrays whose
size does not grow with the tasks, so it can be jitted, donated, sharded and written to disk.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from magmax_jax.errors import UserError
from magmax_jax.merging.task_vectors import PyTree, zeros

State = Any


class MergeRule(NamedTuple):
    """A way to merge task vectors, as pure functions.

    Attributes:
      init: theta_0 -> state, before any task.
      update: (state, tau_t) -> state, once for every task, in their order.
      finalize: state -> tau, the merged task vector; the state stays usable.
      streaming: the state's size does not depend on the number of tasks.
      default_scale: the lambda that the rule is published with.
    """

    init: Callable[[PyTree], State]
    update: Callable[[State, PyTree], State]
    finalize: Callable[[State], PyTree]
    streaming: bool
    default_scale: float


class Counted(NamedTuple):
    """State of rules that count: a running task vector, and how many were seen (int32 scalar)."""

    tau: PyTree
    count: jax.Array

    @classmethod
    def zeros(cls, pretrained: PyTree) -> "Counted":
        return cls(zeros(pretrained), jnp.int32(0))


# Rules are cached, so that equal rules are one value and `jax.jit` compiles each of them once.


@cache
def max_magnitude() -> MergeRule:
    """MagMax: of every parameter, the change of the largest magnitude.

        tau^p = tau_t*^p,    t* = the last of argmax_t |tau_t^p|

    Marczak et al., 2024 (arXiv 2407.06322), eq. 2; a later task wins a tie (`>=`), as in the
    official code. Default scale 0.5. State: one task vector. Order matters in ties only.

    >>> rule = max_magnitude()
    >>> state = rule.init(jnp.zeros(3))
    >>> for tau in (jnp.array([3.0, -1.0, 1.0]), jnp.array([-2.0, -4.0, -1.0])):
    ...     state = rule.update(state, tau)
    >>> print(rule.finalize(state))
    [ 3. -4. -1.]
    """

    def update(merged: PyTree, tau: PyTree) -> PyTree:
        return jax.tree.map(lambda m, t: jnp.where(jnp.abs(t) >= jnp.abs(m), t, m), merged, tau)

    return MergeRule(zeros, update, lambda merged: merged, streaming=True, default_scale=0.5)


@cache
def average() -> MergeRule:
    """The mean of the task vectors, which at scale 1 is the mean of the models.

        tau = 1/T sum_t tau_t

    Wortsman et al., 2022 (arXiv 2203.05482). Default scale 1. State: one task vector and a counter.
    Order does not matter, but for rounding.
    """

    def update(state: Counted, tau: PyTree) -> Counted:
        return Counted(jax.tree.map(jnp.add, state.tau, tau), state.count + 1)

    def finalize(state: Counted) -> PyTree:
        share = 1.0 / jnp.maximum(state.count, 1)
        return jax.tree.map(lambda total: total * share, state.tau)

    return MergeRule(Counted.zeros, update, finalize, streaming=True, default_scale=1.0)


@cache
def random_mix(seed: int = 0) -> MergeRule:
    """Of every parameter, the change of a task drawn uniformly: the paper's control.

        tau^p = tau_t^p,    t uniform over 1 ... T, for each p by itself

    Drawn as a reservoir of one (Vitter, 1985): the t-th task replaces an entry with probability
    1/t, which leaves every task in it with probability 1/T. Default scale 1. State: one task vector
    and a counter. Order changes the draws, not their distribution.

    Args:
      seed: of the draws; the same seed and order give the same mix.
    """

    def update(state: Counted, tau: PyTree) -> Counted:
        count = state.count + 1
        leaves, treedef = jax.tree.flatten(state.tau)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), count), len(leaves))

        def replace(key, mixed, tau):
            # u in [0, 1) and u t < 1: the first task replaces everything.
            return jnp.where(jax.random.uniform(key, mixed.shape) * count < 1, tau, mixed)

        mixed = map(replace, keys, leaves, treedef.flatten_up_to(tau))
        return Counted(jax.tree.unflatten(treedef, mixed), count)

    return MergeRule(
        Counted.zeros, update, lambda state: state.tau, streaming=True, default_scale=1.0
    )


def named(name: str, seed: int = 0) -> MergeRule:
    """The rule of that name; `seed` is for those that draw.

    Raises:
      UserError: there is none.
    """
    rules = {
        "max_magnitude": max_magnitude,
        "average": average,
        "random_mix": lambda: random_mix(seed),
    }
    if name not in rules:
        raise UserError(f"{name!r} is no merge rule: choose from {', '.join(rules)}")
    return rules[name]()

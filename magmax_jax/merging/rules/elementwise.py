"""Rules that look at one entry at a time: extremes, sums and averages."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from magmax_jax.errors import UserError
from magmax_jax.merging.rule import Counted, MergeRule, factory, leafwise
from magmax_jax.merging.task_vectors import PyTree, is_merged, zeros
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES

ENTRYWISE: dict[str, Any] = {"scope": "entry", "reads_names": False}
"""`MergeRule` fields shared by every rule here."""


class Sourced(NamedTuple):
    """State of `max_magnitude` with provenance.

    Attributes:
      tau: the running task vector.
      source: for every entry, the task that supplied it, from 1; 0 before any task. uint8: tasks
        from the 255th on share that number.
      signs: for every entry, the signs of its changes: 1 if some task increased it, 2 if some task
        decreased it, 3 for both (a sign conflict). uint8.
      count: tasks seen, int32 scalar.
    """

    tau: PyTree
    source: PyTree
    signs: PyTree
    count: jax.Array  # type: ignore[assignment]  # part of saved states; tuple.count is not called


@RULES.register("max_magnitude")
@factory
def max_magnitude(provenance: bool = False) -> MergeRule:
    """MagMax: for each parameter, the change of largest magnitude.

        tau^p = tau_t*^p,    t* = the last of argmax_t |tau_t^p|

    Marczak et al., 2024 (arXiv 2407.06322), eq. 2; a later task wins a tie (`>=`), as in the
    official code. Default scale 0.5. State: one task vector; with provenance, half of one more.
    Order matters only in ties.

    Args:
      provenance: also keep which task supplied each entry and whether the tasks agreed on its sign
        (see `Sourced`).

    >>> rule = max_magnitude()
    >>> state = rule.init(jnp.zeros(3))
    >>> for tau in (jnp.array([3.0, -1.0, 1.0]), jnp.array([-2.0, -4.0, -1.0])):
    ...     state = rule.update(state, tau)
    >>> print(rule.finalize(state))
    [ 3. -4. -1.]
    """

    def larger(merged: jax.Array, tau: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(tau) >= jnp.abs(merged), tau, merged)

    if not provenance:
        return MergeRule(
            zeros,
            lambda merged, tau: leafwise(larger, merged, tau),
            lambda merged: merged,
            streaming=True,
            default_scale=0.5,
            state_options=(("provenance", True),),
            **ENTRYWISE,
        )

    def init(pretrained: PyTree) -> Sourced:
        tau = zeros(pretrained)

        def unknown() -> PyTree:
            return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.uint8), tau)

        return Sourced(tau, unknown(), unknown(), jnp.int32(0))

    def update(state: Sourced, tau: PyTree) -> Sourced:
        count = state.count + 1
        number = jnp.minimum(count, 255).astype(jnp.uint8)

        def supplier(merged: jax.Array, tau: jax.Array, source: jax.Array) -> jax.Array:
            if not is_merged(merged):
                return source
            return jnp.where(jnp.abs(tau) >= jnp.abs(merged), number, source)

        def seen(signs: jax.Array, tau: jax.Array) -> jax.Array:
            return signs | jnp.where(tau > 0, jnp.uint8(1), jnp.where(tau < 0, jnp.uint8(2), 0))

        source = jax.tree.map(supplier, state.tau, tau, state.source)
        signs = jax.tree.map(seen, state.signs, tau)
        return Sourced(leafwise(larger, state.tau, tau), source, signs, count)

    return MergeRule(
        init, update, lambda state: state.tau, streaming=True, default_scale=0.5, **ENTRYWISE
    )


@RULES.register("min_magnitude")
@factory
def min_magnitude() -> MergeRule:
    """For each parameter, the change of smallest magnitude: the control for `max_magnitude`.

        tau^p = tau_t*^p,    t* = the last of argmin_t |tau_t^p|

    Default scale 0.5, that of the rule it is compared with. State: one task vector and a counter.
    Order matters only in ties; a later task wins them.
    """

    def update(state: Counted, tau: PyTree) -> Counted:
        def smaller(merged: jax.Array, tau: jax.Array) -> jax.Array:
            return jnp.where((state.count == 0) | (jnp.abs(tau) <= jnp.abs(merged)), tau, merged)

        return Counted(leafwise(smaller, state.tau, tau), state.count + 1)

    return MergeRule(
        Counted.zeros,
        update,
        lambda state: state.tau,
        streaming=True,
        default_scale=0.5,
        **ENTRYWISE,
    )


@RULES.register("average")
@factory
def average(divisor: int | None = None) -> MergeRule:
    """The mean of the task vectors; at scale 1, the mean of the models.

        tau = 1/T sum_t tau_t

    Wortsman et al., 2022 (arXiv 2203.05482). Default scale 1. State: one task vector and a counter.
    Order affects only rounding.

    Args:
      divisor: replaces T, whatever the number of tasks; MagMax's official code uses 2 for
        domain-incremental learning.

    Raises:
      UserError: it is not positive.
    """
    if divisor is not None and divisor <= 0:
        raise UserError(f"average: the divisor is {divisor}: it must be positive")

    def update(state: Counted, tau: PyTree) -> Counted:
        return Counted(leafwise(jnp.add, state.tau, tau), state.count + 1)

    def finalize(state: Counted) -> PyTree:
        share = 1.0 / (divisor or jnp.maximum(state.count, 1))
        return leafwise(lambda total: total * share, state.tau)

    return MergeRule(
        Counted.zeros, update, finalize, streaming=True, default_scale=1.0, **ENTRYWISE
    )


@RULES.register("task_arithmetic")
@factory
def task_arithmetic() -> MergeRule:
    """The sum of the task vectors.

        tau = sum_t tau_t

    Ilharco et al., 2023 (arXiv 2212.04089). Default scale 0.3, the usual choice for eight vision
    tasks; the paper picks it on validation data. State: one task vector. Order affects only
    rounding.
    """
    return MergeRule(
        zeros,
        lambda total, tau: leafwise(jnp.add, total, tau),
        lambda total: total,
        streaming=True,
        default_scale=0.3,
        **ENTRYWISE,
    )


@RULES.register("weighted_average")
@factory
def weighted_average(weights: Sequence[float]) -> MergeRule:
    """The weighted mean of the task vectors.

        tau = sum_t w_t tau_t / sum_t w_t

    Default scale 1. State: one task vector and a counter. Order pairs tasks with their weights.

    Args:
      weights: one per task, in order; those of the tasks seen so far count, and any common factor
        cancels. A task beyond them has no weight: the merge is NaN from there on.

    Raises:
      UserError: there are no weights, or they are not positive numbers.
    """
    if not weights or not all(0 < weight <= sys.float_info.max for weight in weights):
        raise UserError(f"weighted_average: weights are {weights}: give positive numbers")

    def weight(i: jax.Array) -> jax.Array:
        return jnp.array(weights, jnp.float32).at[i].get(mode="fill", fill_value=jnp.nan)

    def update(state: Counted, tau: PyTree) -> Counted:
        w = weight(state.count)
        return Counted(leafwise(lambda m, t: m + w * t, state.tau, tau), state.count + 1)

    def finalize(state: Counted) -> PyTree:
        seen = jnp.arange(len(weights)) < state.count
        total = jnp.sum(jnp.array(weights, jnp.float32), where=seen)
        share = 1.0 / jnp.where(state.count, total, 1.0)
        return leafwise(lambda total: total * share, state.tau)

    return MergeRule(
        Counted.zeros,
        update,
        finalize,
        streaming=True,
        default_scale=1.0,
        most_models=len(weights),
        per_model="weights",
        **ENTRYWISE,
    )


@RULES.register("ema")
@factory
def ema(decay: float = 0.5) -> MergeRule:
    """An exponential moving average of the task vectors: late tasks count more.

        m_1 = tau_1,    m_t = decay m_{t-1} + (1 - decay) tau_t,    tau = m_T

    Best-in-TIME's deployment (Dziadzio et al., 2024, arXiv 2412.06712), which averages the models;
    averaging their task vectors is the same. Default scale 1. State: one task vector and a counter.
    Order matters by design.

    Args:
      decay: in [0, 1): weight of the past; 0 keeps the last model. The paper tunes it.

    Raises:
      UserError: decay is outside [0, 1).
    """
    if not 0 <= decay < 1:
        raise UserError(f"ema: decay is {decay}: it must be in [0, 1)")

    def update(state: Counted, tau: PyTree) -> Counted:
        def blend(merged: jax.Array, tau: jax.Array) -> jax.Array:
            return jnp.where(state.count == 0, tau, decay * merged + (1 - decay) * tau)

        return Counted(leafwise(blend, state.tau, tau), state.count + 1)

    return MergeRule(
        Counted.zeros,
        update,
        lambda state: state.tau,
        streaming=True,
        default_scale=1.0,
        **ENTRYWISE,
    )

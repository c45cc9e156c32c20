"""Merges weighted by Adam's second moments: a Fisher that training has already computed."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from magmax_jax.errors import UserError
from magmax_jax.merging.rule import Informed, MergeRule, factory, leafwise
from magmax_jax.merging.task_vectors import PyTree, zeros
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES


class Weighted(NamedTuple):
    """State of `adam_weighted`.

    Attributes:
      weighted: sum of v^power tau; the plain sum of tau for entries without any weight so far.
      total: sum of v^power.
      count: tasks seen, int32 scalar.
    """

    weighted: PyTree
    total: PyTree
    count: jax.Array  # type: ignore[assignment]  # part of saved states; tuple.count is not called


class Selected(NamedTuple):
    """State of `adam_weighted` with selection.

    Attributes:
      tau: for every entry, the change selected so far.
      score: its v^(power/2) |tau|.
    """

    tau: PyTree
    score: PyTree


@RULES.register("adam_weighted")
@factory
def adam_weighted(power: float = 1.0, select: bool = False) -> MergeRule:
    """The mean of the task vectors, weighted entry by entry by Adam's second moments.

        tau = sum_t v_t^power tau_t / sum_t v_t^power,
        v_t = (1 - b2) sum_s b2^(S - s) g_s^2 / (1 - b2^S),    b2 = 0.999

    g_s are the gradients of the task's S steps. Where no task has any weight, the plain mean.

    `fisher` (Matena & Raffel, 2022, arXiv 2111.09832) with a Fisher that costs no pass over the
    data: Li et al., 2025 (arXiv 2507.18807) find that v works about as well. OTA (Mahdavinia et
    al., 2025, arXiv 2509.11167) merges this way, with power 1/2. Near a minimum the mean gradient
    vanishes and v is the empirical Fisher divided by the batch size, which cancels between tasks
    that share it: power 1 is a curvature, and the merge minimises the summed quadratic losses.
    sqrt(v), power 1/2, is Adam's preconditioner; it evens out the weights and the noise in v.

    v differs from the empirical Fisher (also EWC's) in three ways. It squares gradients of batches,
    not of single images, so it keeps their mean. It averages over about the last 1,000 steps (all
    of a short task), not only at theta_t: the Fisher of a task whose loss has reached 0 vanishes,
    but not its v. And it holds the gradients that Adam sees: of augmented images and true labels,
    with a regularizer's penalty, without weight decay, and clipped by their global norm, so that no
    task's v sums to more than the squared limit and tasks with steep losses count for less than
    under their Fisher. Frozen parameters have v = 0.

    With `select`, for each parameter the change whose removal raises its task's loss most:

        tau^p = tau_t*^p,    t* = the last of argmax_t v_t^power (tau_t^p)^2

    (v tau^2 / 2 is that rise to second order; OTA prunes by it.) Power 0 weighs all tasks equally,
    which gives `average` and `max_magnitude`.

    Default scale 1, that of a mean of models; with `select` 0.5, that of `max_magnitude`. State:
    two task vectors, and a counter without `select`. Order affects only rounding; with `select`,
    only ties, which a later task wins.

    Every task is an `Informed(params, v)`: a model (for `merge`, `fold`) or task vector (for
    `update`) with the bias-corrected second moments, a pytree of its structure; negative entries
    count as 0. Runs supply them.

    Args:
      power: exponent of v, not negative.
      select: choose a task for every entry instead of averaging.

    Raises:
      UserError: the power is negative or not finite.

    >>> rule = adam_weighted()
    >>> state = rule.init(jnp.zeros(3))
    >>> for tau, v in (([1.0, 1.0, 1.0], [1.0, 1.0, 0.0]), ([3.0, 3.0, 3.0], [1.0, 3.0, 0.0])):
    ...     state = rule.update(state, Informed(jnp.array(tau), jnp.array(v)))
    >>> print(rule.finalize(state))
    [2.  2.5 2. ]
    """
    if not 0 <= power <= sys.float_info.max:
        raise UserError(f"adam_weighted: power is {power}: it must be 0 or a positive number")
    return _selecting(power) if select else _averaging(power)


@RULES.register("adam_selected")
@factory
def adam_selected(power: float = 1.0) -> MergeRule:
    """`adam_weighted` with `select`, as a separate name for runs, which give rules by name only."""
    return adam_weighted(power, select=True)


def _averaging(power: float) -> MergeRule:
    def update(state: Weighted, task: Informed) -> Weighted:
        _check(task)

        def weigh(
            weighted: jax.Array, total: jax.Array, tau: jax.Array, moment: jax.Array
        ) -> jax.Array:
            weight = _raised(moment, power)
            none = total + weight == 0
            before = jnp.where((total == 0) & ~none, 0, weighted)  # ends the plain sum
            # Behind a barrier: the compiler fuses the product with the sum on some meshes only,
            # which changes the last bits.
            added = jax.lax.optimization_barrier(jnp.where(none, 1, weight) * tau)
            return before + added

        def count(total: jax.Array, moment: jax.Array) -> jax.Array:
            return total + _raised(moment, power)

        return Weighted(
            leafwise(weigh, state.weighted, state.total, task.params, task.fisher),
            leafwise(count, state.total, task.fisher),
            state.count + 1,
        )

    def finalize(state: Weighted) -> PyTree:
        seen = jnp.maximum(state.count, 1)
        return leafwise(
            lambda sums, total: sums / jnp.where(total > 0, total, seen),
            state.weighted,
            state.total,
        )

    return MergeRule(
        lambda pretrained: Weighted(zeros(pretrained), zeros(pretrained), jnp.int32(0)),
        update,
        finalize,
        default_scale=1.0,
        **_FACTS,
    )


def _selecting(power: float) -> MergeRule:
    def update(state: Selected, task: Informed) -> Selected:
        _check(task)

        def score(tau: jax.Array, moment: jax.Array) -> jax.Array:
            # The root of v^power tau^2, because float32 might not hold the square.
            return _raised(moment, power / 2) * jnp.abs(tau)

        def choose(
            chosen: jax.Array, best: jax.Array, tau: jax.Array, moment: jax.Array
        ) -> jax.Array:
            return jnp.where(score(tau, moment) >= best, tau, chosen)

        def best(best: jax.Array, tau: jax.Array, moment: jax.Array) -> jax.Array:
            return jnp.maximum(best, score(tau, moment))

        return Selected(
            leafwise(choose, state.tau, state.score, task.params, task.fisher),
            leafwise(best, state.score, task.params, task.fisher),
        )

    return MergeRule(
        lambda pretrained: Selected(zeros(pretrained), zeros(pretrained)),
        update,
        lambda state: state.tau,
        default_scale=0.5,
        **_FACTS,
    )


_FACTS: dict[str, Any] = {
    "streaming": True,
    "scope": "entry",
    "reads_names": False,
    "needs_fisher": True,
    "from_adam": True,
}


def _check(task: Informed) -> None:
    if not isinstance(task, Informed):
        raise UserError("adam_weighted needs every model as rules.Informed(params, second_moments)")


def _raised(moment: jax.Array, power: float) -> jax.Array:
    """moment^power, float32; exact or correctly rounded for the default powers."""
    moment = jnp.maximum(jnp.asarray(moment, jnp.float32), 0)
    if power == 1:
        return moment
    return jnp.sqrt(moment) if power == 0.5 else moment**power

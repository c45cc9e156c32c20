"""Fisher merging: each task's weight on an entry is its certainty about it."""

from __future__ import annotations

from typing import NamedTuple

from magmax_jax.errors import UserError
from magmax_jax.merging.rule import Informed, MergeRule, factory, leafwise
from magmax_jax.merging.task_vectors import PyTree, zeros
from magmax_jax.packages.lazy_jax import jax, jnp
from magmax_jax.registry import RULES


class Precision(NamedTuple):
    """State of `fisher`: sum of F tau, and sum of F."""

    weighted: PyTree
    total: PyTree


@RULES.register("fisher")
@factory
def fisher(floor: float = 1e-6) -> MergeRule:
    """The mean of the task vectors, weighted entry by entry by each task's Fisher information.

        tau = sum_t F_t tau_t / sum_t F_t,    F_t = max(Fisher_t, floor)

    Matena & Raffel, 2022 (arXiv 2111.09832), with equal task weights. fusion_bench adds the floor
    instead, and can scale every task's Fisher to the same norm: for that, pass scaled ones.
    Default scale 1. State: two task vectors. Order affects only rounding.

    Every task is an `Informed(params, fisher)`: a model (for `merge`, `fold`) or task vector (for
    `update`) with a pytree of its structure that holds the diagonal of the Fisher, not negative.

    Args:
      floor: entries below it count as equally certain, so entries that no task depends on are
        averaged.

    Raises:
      UserError: the floor is not positive.
    """
    if not floor > 0:
        raise UserError(f"fisher: floor is {floor}: it must be positive")

    def update(state: Precision, task: Informed) -> Precision:
        if not isinstance(task, Informed):
            raise UserError("fisher needs every model as rules.Informed(params, fisher)")

        def raised(information: jax.Array) -> jax.Array:
            return jnp.maximum(jnp.asarray(information, jnp.float32), floor)

        def weigh(total: jax.Array, tau: jax.Array, information: jax.Array) -> jax.Array:
            return total + raised(information) * tau

        def count(total: jax.Array, information: jax.Array) -> jax.Array:
            return total + raised(information)

        return Precision(
            leafwise(weigh, state.weighted, task.params, task.fisher),
            leafwise(count, state.total, task.fisher),
        )

    def finalize(state: Precision) -> PyTree:
        return leafwise(lambda a, b: a / jnp.maximum(b, floor), state.weighted, state.total)

    return MergeRule(
        lambda pretrained: Precision(zeros(pretrained), zeros(pretrained)),
        update,
        finalize,
        streaming=True,
        default_scale=1.0,
        scope="tensor",
        reads_names=False,
        needs_fisher=True,
    )

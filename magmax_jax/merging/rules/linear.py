"""The weighted mean of models, theta_0 among them."""

from __future__ import annotations

from collections.abc import Sequence

from magmax_jax.errors import UserError
from magmax_jax.merging.numerics.over_tasks import EachTask, sum_over
from magmax_jax.merging.rule import (
    Collected,
    MergeRule,
    collected,
    collecting,
    factory,
    leafwise_collected,
)
from magmax_jax.merging.rules.weights import check_weights
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES


@RULES.register("linear_combination")
@factory
def linear_combination(weights: Sequence[float] | None = None, normalize: bool = True) -> MergeRule:
    """The weighted mean, or sum, of theta_0 and all models.

        theta = sum_i w_i theta_i / sum_i w_i,    i = 0 ... T

    mergekit's linear (Wortsman et al., 2022, arXiv 2203.05482): theta_0 is one of the models,
    unlike in `weighted_average`. Default scale 1. Collects all task vectors. Order pairs the models
    with their weights.

    Args:
      weights: theta_0's, then one per task, of any sign; 1 by default.
      normalize: divide by the sum of the weights.

    Raises:
      UserError: the weights are not finite, or sum to zero where they are normalised; or, when
        merging, there are more models than weights.
    """
    check_weights("linear_combination", weights, normalize)

    def finalize(state: Collected) -> PyTree:
        count = 1 + collected(state, with_theta_0=True)
        if weights is not None and count > len(weights):
            raise UserError(
                f"linear_combination: {len(weights)} weights for {count} models: give one for each"
            )
        used = weights[:count] if weights else (1.0,) * count
        total, weighted = sum(used), jnp.array(used, jnp.float32)

        def combine(_: str, theta_0: jax.Array, taus: EachTask) -> jax.Array:
            """The change from theta_0."""
            if isinstance(taus, jax.Array):
                change = _weighted_sum(weighted[1:], taus)
            else:
                change = jnp.zeros(jnp.shape(theta_0), jnp.float32)
                for weight, tau in zip(weighted[1:], taus, strict=True):
                    change = change + weight * tau
            if normalize:
                return change * jnp.float32(1 / total)
            return change + _shift(theta_0, total - 1)

        return leafwise_collected(combine, state, with_theta_0=True)

    return collecting(
        finalize,
        default_scale=1.0,
        with_theta_0=True,
        stacks=True,
        # A sum that is not a mean needs theta_0 itself, which chunks of float64 do not have.
        scope="entry" if normalize else "tensor",
        reads_names=False,
        most_models=None if weights is None else len(weights) - 1,
    )


@jit
def _weighted_sum(weights: jax.Array, taus: jax.Array) -> jax.Array:
    return jnp.asarray(sum_over(lambda weight, tau: weight * tau, weights, taus))


@jit
def _shift(theta_0: jax.Array, by: float) -> jax.Array:
    base = jnp.asarray(theta_0, jnp.float32)
    return by * jnp.where(jnp.isneginf(base), 0.0, base)

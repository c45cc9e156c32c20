"""Rules based on the angles between task vectors, tensor by tensor."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.numerics.over_tasks import EachTask, each, sum_over
from magmax_jax.merging.numerics.reductions import inner, squared_norm
from magmax_jax.merging.rule import (
    Collected,
    MergeRule,
    collected,
    collecting,
    factory,
    leafwise_collected,
)
from magmax_jax.merging.rules.spherical import about_zero, arc, inner_products, of_two
from magmax_jax.merging.task_vectors import PyTree
from magmax_jax.packages.lazy_jax import jax, jit, jnp
from magmax_jax.registry import RULES

PARALLEL = 0.9995
"""The cosine beyond which two directions are treated as equal, as in mergekit."""


@RULES.register("model_stock")
@factory
def model_stock(least: float = 0.0, by_row: bool = False) -> MergeRule:
    """Model Stock: the mean change of every tensor, shrunk the more the models disagree on it.

        tau = k mean_t tau_t,    k = T c / (1 + (T - 1) c),    c the mean cosine of two task vectors

    Jang et al., 2024 (arXiv 2403.19522), one angle per tensor. For more than two models the paper
    writes one angle; mergekit averages the cosines, as here, fusion_bench the angles. Tensors that
    no model changed, or whose changes pull back to theta_0, stay at theta_0. Default scale 1.
    Collects all task vectors. Order affects only rounding.

    Args:
      least: products of two norms below this count as this much. mergekit has 1e-6, which shrinks
        the cosines of changes whose norms are below 1e-3, and with them k.
      by_row: one angle per row (last axis; a vector is one row) instead of one per tensor;
        mergekit's `filter_wise`.

    Raises:
      UserError: `least` is negative; or, when merging, there are fewer than two models.
    """
    if not 0 <= least < float("inf"):
        raise UserError(f"model_stock: least is {least}: give a number from 0 up")
    floor = least or float(np.finfo(np.float32).tiny)

    @jit
    def by_pairs(taus: EachTask) -> jax.Array:
        norms = each(lambda tau: jnp.sqrt(inner_products(tau, tau, by_row)), taus)
        number = len(taus)

        def cosine_of(a: jax.Array, m: jax.Array, b: jax.Array, n: jax.Array) -> jax.Array:
            """Cosine of two task vectors with their norms."""
            found = inner_products(a, b, by_row) / jnp.maximum(m * n, floor)
            return jnp.clip(found, -1.0, 1.0)

        if isinstance(taus, jax.Array):
            c = _sum_over_pairs(cosine_of, taus, norms)
        else:
            pairs = itertools.combinations(zip(taus, norms, strict=True), 2)
            c = jnp.asarray(sum(cosine_of(*one, *other) for one, other in pairs))
        c = c / (number * (number - 1) // 2)
        below = 1 + (number - 1) * c
        singular = jnp.abs(below) < 1e-6
        ratio = jnp.where(singular, 0.0, number * c / jnp.where(singular, 1.0, below))
        return ratio * (sum_over(lambda tau: tau, taus) / number)

    @jit
    def interpolate(taus: EachTask) -> jax.Array:
        # |sum of unit vectors|^2 contains the cosines of all pairs, for T products, not T^2.
        norms, number = each(lambda tau: jnp.sqrt(squared_norm(tau)), taus), len(taus)
        unit = sum_over(lambda tau, n: tau / jnp.where(n > 0, n, 1.0), taus, norms)
        changed = jnp.sum(norms > 0, dtype=jnp.int32).astype(jnp.float32)
        twice_pairs = squared_norm(jnp.asarray(unit)) - changed
        c = jnp.clip(twice_pairs / (number * (number - 1)), -1.0, 1.0)
        below = 1 + (number - 1) * c
        ratio = jnp.where(below > 1e-6, number * c / jnp.where(below > 1e-6, below, 1.0), 0.0)
        return ratio * (sum_over(lambda tau: tau, taus) / number)

    def finalize(taus: Collected) -> PyTree:
        if collected(taus) < 2:
            raise UserError("model_stock needs two models or more: one has no angle to another")
        merge = by_pairs if least or by_row else interpolate
        return leafwise_collected(lambda _, leaves: merge(leaves), taus)

    return collecting(
        finalize,
        default_scale=1.0,
        stacks=True,
        scope="tensor",
        reads_names=False,
        fewest_models=2,
    )


def _sum_over_pairs(function: Callable[..., jax.Array], *values: jax.Array) -> jax.Array:
    """The sum of a function of both tasks' values over all pairs of tasks."""
    number = jnp.arange(len(values[0]))

    def with_others(i: jax.Array, *one: jax.Array) -> jax.Array:
        def later(j: jax.Array, *other: jax.Array) -> jax.Array:
            return jnp.where(j > i, function(*one, *other), 0.0)

        return jnp.asarray(sum_over(later, number, *values))

    return jnp.asarray(sum_over(with_others, number, *values))


@RULES.register("slerp")
@factory
def slerp(t: float = 0.5, whole: bool = False) -> MergeRule:
    """Interpolates along the arc from the first model's change to the second's, tensor by tensor.

        tau = sin((1 - t) a) / sin(a) tau_1 + sin(t a) / sin(a) tau_2,    a their angle

    Shoemake, 1985. mergekit has the same formula and fallback (a straight line where |cos a| >
    0.9995, here also where a tensor did not change), but rotates whole weights about the origin,
    from theta_0 to a model; this rotates task vectors about theta_0. Default scale 1. Collects
    exactly two task vectors. Order: t = 0 is the first, 1 the second.

    Args:
      t: position on the arc, in [0, 1].
      whole: as mergekit: the arc from theta_0 to the only model, of whole weights about the origin.
        Any t is then allowed. A tensor of zeros has no direction: its angle to another is 90
        degrees, so that half way to x is sin(45 degrees) x.

    Raises:
      UserError: t is outside [0, 1], or not finite; or, when merging, there are not two models, or
        not one with `whole`.
    """
    if not (0 <= t <= 1 or (whole and abs(t) < float("inf"))):
        raise UserError(f"slerp: t is {t}: it must be {'finite' if whole else 'in [0, 1]'}")
    if whole:
        return about_zero(
            lambda models: arc(*models, share=t, parallel=PARALLEL), "slerp", fewest=1, most=1
        )

    @jit
    def turn(a: jax.Array, b: jax.Array) -> jax.Array:
        c = cosine(a, b)
        straight = (jnp.abs(c) > PARALLEL) | (squared_norm(a) == 0) | (squared_norm(b) == 0)
        angle = jnp.arccos(jnp.where(straight, 0.0, c))
        from_a = jnp.where(straight, 1 - t, jnp.sin((1 - t) * angle) / jnp.sin(angle))
        from_b = jnp.where(straight, t, jnp.sin(t * angle) / jnp.sin(angle))
        return from_a * a + from_b * b

    return of_two(turn, "slerp")


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cosine of the angle between two arrays of one shape, in [-1, 1]; 0 if either is zero."""
    norms = jnp.sqrt(squared_norm(a)) * jnp.sqrt(squared_norm(b))
    return jnp.clip(inner(a, b) / jnp.where(norms > 0, norms, 1.0), -1.0, 1.0)

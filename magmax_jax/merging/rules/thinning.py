"""Which entries of a tensor are kept: exact numbers of them, or at random by rank."""

from __future__ import annotations

from functools import partial

from magmax_jax.merging.numerics.ranking import ranks
from magmax_jax.merging.numerics.reductions import fixed_sum
from magmax_jax.packages.lazy_jax import jax, jit, jnp

LEAST_NORM = 1e-7
"""L1 norms below this are not preserved, as in mergekit."""


def largest_rank(size: int, density: float) -> int:
    """The rank (1 is the smallest) of the smallest entry that "magnitude" keeps of a tensor.

    `size` + 1 if it keeps none.
    """
    if density >= 1:
        return 1
    return size + 1 - (max(1, int(density * size)) if density > 0 and size else 0)


def middle(size: int, density: float, gamma: float) -> tuple[int, int]:
    """Of a tensor, "outliers" keeps the `last` smallest entries without the `first` smallest."""
    keep = int(density * size)
    first = max(0, size - keep - int(gamma * size))
    return first, first + keep


@jit
def largest(tau: jax.Array, threshold: jax.Array, count: jax.typing.ArrayLike) -> jax.Array:
    """Where the `count` largest magnitudes are, `threshold` being the smallest of these."""
    magnitude = jnp.abs(tau)
    return _with_first(magnitude > threshold, magnitude == threshold, count)


@jit
def smallest(tau: jax.Array, threshold: jax.Array, count: jax.typing.ArrayLike) -> jax.Array:
    """Where the `count` smallest magnitudes are, `threshold` being the largest of these."""
    magnitude = jnp.abs(tau)
    return _with_first(magnitude < threshold, magnitude == threshold, count)


def _with_first(sure: jax.Array, equal: jax.Array, count: jax.typing.ArrayLike) -> jax.Array:
    """`sure` entries and as many of the `equal` ones, in order, as make up the count."""
    missing = count - jnp.sum(sure, dtype=jnp.int32)
    place = jnp.cumsum(equal.reshape(-1), dtype=jnp.int32).reshape(equal.shape)
    return sure | (equal & (place <= missing))


@partial(jit, static_argnames="rescale")
def only(tau: jax.Array, kept: jax.Array, rescale: bool) -> jax.Array:
    """The kept entries, the others zero; rescaled to the L1 norm of all."""
    thinned = jnp.where(kept, tau, 0.0)
    if not rescale:
        return thinned
    before, after = fixed_sum(jnp.abs(tau)), fixed_sum(jnp.abs(thinned))
    small = (before < LEAST_NORM) | (after < LEAST_NORM)
    return thinned * jnp.where(small, 1.0, before / jnp.where(small, 1.0, after))


@jit
def drawn(key: jax.Array, tau: jax.Array, density: float) -> jax.Array:
    """Where a draw keeps entries, each with probability `density`."""
    return jax.random.uniform(key, tau.shape, jnp.float32) < density


@jit
def drawn_by_rank(key: jax.Array, tau: jax.Array, density: float, epsilon: float) -> jax.Array:
    """Where a draw keeps entries, with probability density - epsilon to density + epsilon."""
    rows = jnp.moveaxis(tau, 1, -1) if tau.ndim > 1 else tau
    length = rows.shape[-1] if rows.ndim else 1
    share = ranks(rows).astype(jnp.float32) / (length - 1) if length > 1 else 0.5
    probability = density - epsilon + 2 * epsilon * share
    if tau.ndim > 1 and length > 1:
        probability = jnp.moveaxis(probability, -1, 1)
    return jax.random.uniform(key, tau.shape, jnp.float32) < probability

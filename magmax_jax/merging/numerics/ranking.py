"""The rank of every entry within its row, by sorting numbers that carry their positions."""

from __future__ import annotations

from magmax_jax.packages.lazy_jax import jax, jnp

LOW = 16
"""Bits of a magnitude used by the first of two sorts; the second uses the other 15."""


def ranks(x: jax.Array) -> jax.Array:
    """Rank of each entry by magnitude within its row (the last axis): int32, x's shape.

    Ties keep their order in the row, so a row's ranks are 0 ... n - 1.

    Args:
      x: finite floating-point numbers (..., n); a scalar's rank is 0.

    >>> print(ranks(jnp.array([3.0, -1.0, 0.0, 1.0])))
    [3 1 0 2]
    """
    if x.ndim == 0:
        return jnp.int32(0)
    bits = jax.lax.bitcast_convert_type(jnp.abs(x.astype(jnp.float32)), jnp.int32)
    order = _order(bits) if x.shape[-1] <= 1 << (31 - LOW) else jnp.argsort(bits, axis=-1)
    return jnp.put_along_axis(
        jnp.zeros(x.shape, jnp.int32), order, _places(x.shape), axis=-1, inplace=False
    )


def _order(bits: jax.Array) -> jax.Array:
    """argsort of non-negative int32 numbers in rows of at most 2^15, several times faster.

    Every backend is fastest at sorting a single integer array. So the numbers are sorted by their
    low bits and then by their high bits, each time with the position in the word's other bits:
    this keeps the sort stable and records where each came from.
    """
    width = max(bits.shape[-1] - 1, 1).bit_length()

    def places_sorted(part: jax.Array) -> jax.Array:
        words = jax.lax.sort(part << width | _places(bits.shape), is_stable=False)
        return words & ((1 << width) - 1)

    by_low = places_sorted(bits & ((1 << LOW) - 1))
    by_both = places_sorted(jnp.take_along_axis(bits >> LOW, by_low, axis=-1))
    return jnp.take_along_axis(by_low, by_both, axis=-1)


def _places(shape: tuple[int, ...]) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)

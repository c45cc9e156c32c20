"""Sums whose bits depend neither on an array's devices nor on what is compiled with it.

`jnp.sum` leaves the order of additions to the compiler, which adds a sharded array shard by shard.
Here the program itself fixes the order. And where a product feeds a sum, the compiler may round
once (a fused multiply-add) or twice, depending on the surrounding program. Here only products that
need no rounding feed sums.
"""

from __future__ import annotations

from collections.abc import Callable

from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.packages.lazy_jax import jax, jnp

SHARES = 8
"""Equal parts of the rows, each reduced on its own before any are added together: an array sharded
over this many devices, or half, or a quarter, is added without moving data."""
STEPS = 16
"""Number of steps in which each part is added up, which leaves a sixteenth of it."""


@jit_on_any_mesh(like=None)
def fixed_sum(x: jax.Array) -> jax.Array:
    """The float32 sum of all entries, added in steps and as a tree of eight branches: scalar.

    The tree also keeps the rounding error at O(log n), versus O(n) for a running sum.
    """
    return _tree(_stepwise(lambda x: jnp.asarray(x, jnp.float32), x))


@jit_on_any_mesh(like=None)
def inner(a: jax.Array, b: jax.Array) -> jax.Array:
    """The inner product of two arrays of the same shape: float32 scalar."""
    return _tree(_stepwise(_products, a, b))


def squared_norm(x: jax.Array) -> jax.Array:
    """The sum of squares of an array: float32 scalar."""
    return inner(x, x)


def _products(a: jax.Array, b: jax.Array) -> jax.Array:
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    cross = a_high * b_low + a_low * b_high
    return a_high * b_high + (cross + a_low * b_low)


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits each entry into two numbers of 12 significant bits, whose products are exact."""
    x = jnp.asarray(x, jnp.float32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000)
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return high, x - high


def _stepwise(term: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Partial sums of `term` of arrays of one shape: a sixteenth of its entries, or all of them.

    A loop, because for a tree's first level the compiler would keep every branch in memory.
    """
    *stack, rows, columns = (1, 1, *arrays[0].shape)
    if rows % (SHARES * STEPS):
        return term(*arrays)
    parts = [jnp.reshape(x, (*stack, SHARES, rows // SHARES, columns)) for x in arrays]
    size = rows // (SHARES * STEPS)

    def part(i: jax.typing.ArrayLike) -> jax.Array:
        return term(*(jax.lax.dynamic_slice_in_dim(x, i * size, size, axis=-2) for x in parts))

    return jax.lax.fori_loop(1, STEPS, lambda i, total: total + part(i), part(0))


def _tree(x: jax.Array) -> jax.Array:
    x = x.reshape(-1)
    while x.size > 1:
        rows = -(-x.size // 8)
        x = jnp.pad(x, (0, 8 * rows - x.size)).reshape(8, rows)
        x = x[:4] + x[4:]
        x = x[:2] + x[2:]
        x = x[0] + x[1]
    return jnp.sum(x)  # of one entry or none

"""Sums whose bits do not depend on how an array is spread over devices.

`jnp.sum` leaves the order of additions to the compiler, which adds a sharded array shard by shard.
Here the program itself says which numbers are added to which.
"""

import jax
import jax.numpy as jnp


@jax.jit
def fixed_sum(x: jax.Array) -> jax.Array:
    """The float32 sum of all entries, added as a tree of eight branches: scalar.

    The tree also keeps the rounding error at O(log n) where running along the array would make it
    O(n).
    """
    # The barrier keeps a product that is summed from being fused into the additions (FMA).
    x = jax.lax.optimization_barrier(jnp.asarray(x, jnp.float32).reshape(-1))
    while x.size > 1:
        rows = -(-x.size // 8)
        x = jnp.pad(x, (0, 8 * rows - x.size)).reshape(8, rows)
        x = x[:4] + x[4:]
        x = x[:2] + x[2:]
        x = x[0] + x[1]
    return jnp.sum(x)  # of one entry, or of none


def inner(a: jax.Array, b: jax.Array) -> jax.Array:
    """The inner product of two arrays of one shape: scalar."""
    return fixed_sum(a * b)


def squared_norm(x: jax.Array) -> jax.Array:
    """The sum of squares of an array: scalar."""
    return inner(x, x)

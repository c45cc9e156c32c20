"""Sums whose bits depend neither on the devices of an array nor on what is compiled with it.

`jnp.sum` leaves the order of additions to the compiler, which adds a sharded array shard by shard.
Here the program itself says which numbers are added to which. And where a product meets a sum the
compiler may round once (a fused multiply-add) or twice, as the rest of the program suggests. Here
only products that need no rounding meet sums.
"""

import jax
import jax.numpy as jnp


@jax.jit
def fixed_sum(x: jax.Array) -> jax.Array:
    """The float32 sum of all entries, added as a tree of eight branches: scalar.

    The tree also keeps the rounding error at O(log n), where running along the array has O(n).
    """
    x = jnp.asarray(x, jnp.float32).reshape(-1)
    while x.size > 1:
        rows = -(-x.size // 8)
        x = jnp.pad(x, (0, 8 * rows - x.size)).reshape(8, rows)
        x = x[:4] + x[4:]
        x = x[:2] + x[2:]
        x = x[0] + x[1]
    return jnp.sum(x)  # of one entry, or of none


@jax.jit
def inner(a: jax.Array, b: jax.Array) -> jax.Array:
    """The inner product of two arrays of one shape: float32 scalar."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    cross = a_high * b_low + a_low * b_high
    return fixed_sum(a_high * b_high + (cross + a_low * b_low))


def squared_norm(x: jax.Array) -> jax.Array:
    """The sum of squares of an array: float32 scalar."""
    return inner(x, x)


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two numbers of 12 significant bits that add up to each entry: their products are exact."""
    x = jnp.asarray(x, jnp.float32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000)
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return high, x - high

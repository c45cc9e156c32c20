"""The exact k-th smallest magnitude of a tree, without sorting it.

The bits of a non-negative float32, read as an integer, are ordered as the numbers are. So the
answer is found digit by digit, highest first, as radix sort would: each round counts how many
entries are at least as large as each value that the next digit could take, which is that digit's
cumulative histogram. 31 bits in digits of 3 are 11 passes, each at the speed of reading the memory.
Counts are integers, so the answer is the same number however the entries are spread over leaves,
files or devices.
"""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.merging.task_vectors import PyTree, is_merged

SMALL = 1 << 16
"""Leaves of fewer entries are counted together: they cost compile time, not memory."""


@partial(jax.jit, static_argnames="k")
def kth_magnitude(tree: PyTree, k: int) -> jax.Array:
    """The k-th smallest |entry| over all floating-point leaves: float32 scalar.

    Args:
      tree: any pytree; its entries are finite.
      k: from 1, the smallest, to the number of entries. Below that range the result is 0, at which
        nothing is smaller, and above it infinity, which nothing reaches.

    >>> print(kth_magnitude({"a": jnp.array([3.0, -1.0]), "b": jnp.array([-2.0])}, 2))
    2.0
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if is_merged(leaf)]
    n = sum(leaf.size for leaf in leaves)
    if not 1 <= k <= n:
        return jnp.float32(0 if k < 1 else jnp.inf)
    small = [leaf.reshape(-1).astype(jnp.float32) for leaf in leaves if leaf.size < SMALL]
    leaves = [leaf for leaf in leaves if leaf.size >= SMALL]
    if small:
        leaves.append(jnp.concatenate(small))
    shifts = jnp.array(_shifts(digit=3), jnp.int32)

    def narrow(i, bits):
        pivots = _pivots(bits, shifts[i], digit=3)
        reached = reaches([count_at_least(leaf, pivots) for leaf in leaves], n - k + 1)
        return bits + (jnp.sum(reached, dtype=jnp.int32) << shifts[i])

    bits = jax.lax.fori_loop(0, len(shifts), narrow, jnp.int32(0))
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def kth_magnitude_streamed(
    passes: Callable[[], Iterable[jax.typing.ArrayLike]], k: int
) -> np.float32:
    """`kth_magnitude` of leaves that come one at a time and are never all in memory.

    Args:
      passes: called for each of the 7 passes; gives every leaf once, in any order.
      k: as for `kth_magnitude`.

    >>> print(kth_magnitude_streamed(lambda: iter([np.float32([3, -1]), np.float32([-2])]), 2))
    2.0
    """
    if k < 1:
        return np.float32(0)
    n = None
    bits, digit = 0, 5
    for shift in _shifts(digit):
        pivots = _pivots(np.int32(bits), np.int32(shift), digit)
        counts, entries = np.zeros(len(pivots), np.int64), 0
        for leaf in passes():
            if is_merged(leaf):
                counts += np.asarray(_count_jitted(leaf, pivots))
                entries += np.size(leaf)
        n = entries if n is None else n
        if n != entries:
            raise ValueError(f"a pass gave {entries} entries after one of {n}")
        if k > n:
            return np.float32(np.inf)
        bits += int(np.count_nonzero(counts >= n - k + 1)) << shift
    return np.int32(bits).view(np.float32)


def count_at_least(leaf: jax.Array, pivots: jax.Array) -> jax.Array:
    """How many |entries| of a leaf reach each pivot, given by its bits: (p,) -> (p,) int32."""
    bits = jax.lax.bitcast_convert_type(jnp.abs(jnp.asarray(leaf, jnp.float32)), jnp.int32)
    # One reduction of p operands reads the memory once; p separate ones would read it p times.
    reached = tuple((bits >= pivot).astype(jnp.int32) for pivot in pivots)
    zeros = (jnp.int32(0),) * len(reached)
    counts = jax.lax.reduce(
        reached, zeros, lambda a, b: tuple(map(jnp.add, a, b)), range(bits.ndim)
    )
    return jnp.stack(counts)


_count_jitted = jax.jit(count_at_least)


def _shifts(digit: int) -> list[int]:
    """Where the digits of 31 bits begin, highest first; the last one may overlap the one before."""
    return [*range(31 - digit, 0, -digit), 0]


def _pivots(bits: jax.typing.ArrayLike, shift: jax.typing.ArrayLike, digit: int) -> jax.Array:
    return bits + (np.arange(1, 1 << digit, dtype=np.int32) << shift)


def reaches(counts: list[jax.Array], number: int) -> jax.Array:
    """Whether the sum of int32 counts reaches a number, in two limbs: sums may exceed 32 bits."""
    low = sum(count & 0xFFFF for count in counts)
    high = sum(count >> 16 for count in counts) + (low >> 16)
    low = low & 0xFFFF
    return (high > number >> 16) | ((high == number >> 16) & (low >= number & 0xFFFF))

"""The exact k-th smallest magnitude of a tree, without sorting it.

The bits of a non-negative float32, read as an integer, sort like the numbers. So the answer is
found by a bracketing search: each pass over the data counts the entries that reach a few pivots
within the bracket, which narrows it. The first pivots are quantiles of a sample, later ones lie
where the counts predict the answer, and some always divide the bracket evenly, so any distribution
takes at most one pass per two bits. Weights take five or six passes, each at about the speed of
reading the memory. Counts are integers, so the answer is the same however the entries are spread
over leaves, files or devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from magmax_jax.merging.any_mesh import jit_on_any_mesh
from magmax_jax.merging.task_vectors import PyTree, is_merged
from magmax_jax.packages.lazy_jax import jax, jit, jnp

SMALL = 1 << 16
"""Leaves with fewer entries are counted together: they cost compile time, not memory."""
SAMPLE = 1 << 14
"""Number of sampled entries from which the first pivots are drawn."""
PIVOTS = 7
"""Number counted in one pass; up to this many cost little more than reading the data."""
COLLECTED = 1 << 24
"""Most entries collected over all task vectors: 64 MB."""
Collect = Callable[[np.ndarray, np.ndarray], tuple[Sequence[int], Sequence[np.ndarray]]]
_LARGEST = 0x7F800000  # the bits of infinity, which no finite entry reaches


class Enough(NamedTuple):
    """A number of entries, possibly beyond 32 bits, in two limbs: low + 2^16 high, both int32."""

    low: jax.Array
    high: jax.Array

    @classmethod
    def of(cls, number: int) -> Enough:
        return cls(jnp.int32(number & 0xFFFF), jnp.int32(number >> 16))


class Bracket(NamedTuple):
    """The bits of the answer are in [low, high): enough entries reach low, too few reach high.

    Attributes:
      low, high: int32.
      above, below: by how many entries each has more than enough: float32, >= 0 and < 0.
    """

    low: jax.Array
    high: jax.Array
    above: jax.Array
    below: jax.Array


def kth_magnitude(tree: PyTree, k: int | jax.Array) -> jax.Array:
    """The k-th smallest |entry| over all floating-point leaves: float32 scalar.

    One program serves every k.

    Args:
      tree: any pytree; its entries are finite.
      k: from 1, the smallest, to the number of entries. Below that range the result is 0 (no entry
        is smaller), above it infinity (no entry reaches it). It may be an int32 scalar array.

    >>> print(kth_magnitude({"a": jnp.array([3.0, -1.0]), "b": jnp.array([-2.0])}, 2))
    2.0
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree) if is_merged(leaf)]
    n = sum(leaf.size for leaf in leaves)
    if isinstance(k, jax.Array):
        outside = jnp.where(k < 1, 0.0, jnp.inf)
        if not n:
            return outside
        enough = n - jnp.clip(k, 1, n) + 1
        limbs = Enough(enough & 0xFFFF, enough >> 16)
        bracket = Bracket(
            jnp.int32(0),
            jnp.int32(_LARGEST),
            (n - enough).astype(jnp.float32),
            -enough.astype(jnp.float32),
        )
        found = _kth_magnitude(leaves, limbs, bracket, jnp.clip(k, 1, n) / n)
        return jnp.where((k >= 1) & (k <= n), found, outside)
    if not 1 <= k <= n:
        return jnp.float32(0 if k < 1 else jnp.inf)
    return _kth_magnitude(leaves, Enough.of(n - k + 1), _whole(n, n - k + 1), k / n)


@jit_on_any_mesh(like=None)
def _kth_magnitude(
    leaves: Sequence[jax.Array], enough: Enough, bracket: Bracket, share: float
) -> jax.Array:
    n = sum(leaf.size for leaf in leaves)
    small = [leaf.reshape(-1).astype(jnp.float32) for leaf in leaves if leaf.size < SMALL]
    leaves = [leaf for leaf in leaves if leaf.size >= SMALL]
    if small:
        leaves.append(jnp.concatenate(small))

    def counted(bracket: Bracket, pivots: jax.Array) -> Bracket:
        # Tied to the pivots, so that the compiler does not hoist the leaves' bits, an array as
        # large as the leaves, out of the loop.
        tied, by = jax.lax.optimization_barrier((leaves, pivots))
        return narrowed(bracket, by, excess([count_at_least(leaf, by) for leaf in tied], enough))

    stride = math.ceil(n / SAMPLE)
    sample = jnp.concatenate([_every(leaf, stride) for leaf in leaves])
    bracket = counted(bracket, sample_pivots(sample, share))
    bracket = jax.lax.while_loop(
        lambda bracket: bracket.high - bracket.low > 1,
        lambda bracket: counted(bracket, next_pivots(bracket)),
        bracket,
    )
    return jax.lax.bitcast_convert_type(bracket.low, jnp.float32)


def kth_magnitudes_counted(
    count: Callable[[jax.Array], np.ndarray],
    n: int,
    k: int,
    samples: Sequence[np.ndarray],
    collect: Collect | None = None,
) -> np.ndarray:
    """`kth_magnitude` of t task vectors that are never held in memory: float32 (t,).

    Args:
      count: takes pivots, int32 (t, p) bits of positive float32 numbers, and makes one pass over
        the data: how many |entries| of each task vector are at least each pivot, int (t, p).
      n: entries per task vector.
      k: as for `kth_magnitude`, the same for all.
      samples: representative entries of each task vector; they affect the number of passes, not
        the answer.
      collect: takes bits `low` and `high`, int32 (t,), and makes one pass over the data: how
        many |entries| of each task vector are below `low`, and the bits of those from `low` to
        `high` inclusive. Without it, about four more passes are needed.

    >>> x = np.float32([3, -1, -2])
    >>> def count(pivots):
    ...     return np.sum(np.abs(x) >= np.asarray(pivots).view(np.float32)[..., None], axis=-1)
    >>> print(kth_magnitudes_counted(count, 3, 2, [x]))
    [2.]
    """
    if not 1 <= k <= n:
        return np.full(len(samples), 0 if k < 1 else np.inf, np.float32)
    enough = n - k + 1
    brackets = jax.tree.map(lambda x: jnp.broadcast_to(x, len(samples)), _whole(n, enough))
    pivots = jnp.stack([sample_pivots(jnp.asarray(sample), k / n) for sample in samples])
    if collect:
        ordered = np.sort(pivots, axis=1)
        low, high = ordered[:, 1], ordered[:, -2]
        between = [
            np.mean((bits >= a) & (bits <= b))
            for bits, a, b in zip(map(_magnitude_bits, samples), low, high, strict=True)
        ]
        if n * sum(between) <= COLLECTED and (found := _collected(collect, low, high, k)):
            return np.array(found)
    while (np.asarray(brackets.high) - np.asarray(brackets.low) > 1).any():
        if collect and np.sum(np.asarray(brackets.above) - brackets.below) <= COLLECTED:
            found = _collected(collect, np.asarray(brackets.low), np.asarray(brackets.high) - 1, k)
            return np.array(found)
        more = np.asarray(count(pivots), np.int64) - enough
        brackets = _narrowed_all(brackets, pivots, more.astype(np.float32))
        pivots = _next_pivots_all(brackets)
    return np.asarray(brackets.low).view(np.float32)


def _collected(
    collect: Collect, low: np.ndarray, high: np.ndarray, k: int
) -> list[np.float32] | None:
    """The k-th smallest of each task vector; None if any lies outside its bounds."""
    found = []
    for below, bits in zip(*collect(low, high), strict=True):
        at = k - 1 - below
        if not 0 <= at < bits.size:
            return None
        found.append(np.partition(bits, at)[at].view(np.float32))
    return found


def _magnitude_bits(sample: np.ndarray) -> np.ndarray:
    return np.abs(sample).view(np.int32)


def count_at_least(leaf: jax.Array, pivots: jax.Array) -> jax.Array:
    """How many |entries| of a leaf reach each pivot, given by its bits: (p,) -> (p,) int32."""
    bits = _bits(leaf)
    # One reduction of p operands reads the memory once; p separate ones would read it p times.
    reached = tuple((bits >= pivot).astype(jnp.int32) for pivot in pivots)
    zeros = (jnp.int32(0),) * len(reached)
    counts = jax.lax.reduce(
        reached, zeros, lambda a, b: tuple(map(jnp.add, a, b)), range(bits.ndim)
    )
    return jnp.stack(counts)


def narrowed(bracket: Bracket, pivots: jax.Array, excess: jax.Array) -> Bracket:
    """The bracket after a pass.

    Args:
      pivots: int32 (p,), in any order.
      excess: float32 (p,), entries that reach each pivot less those needed; its sign is exact.
    """
    low = jnp.where((excess >= 0) & (pivots > bracket.low), pivots, bracket.low)
    high = jnp.where((excess < 0) & (pivots < bracket.high), pivots, bracket.high)
    # The larger a pivot, the fewer reach it, so the best pivots' excesses are extremes as well.
    above = jnp.min(jnp.where(low > bracket.low, excess, bracket.above))
    below = jnp.max(jnp.where(high < bracket.high, excess, bracket.below))
    return Bracket(jnp.max(low), jnp.min(high), above, below)


def next_pivots(bracket: Bracket) -> jax.Array:
    """Where to count next: four pivots around the expected answer, three at the quarters: (p,)."""
    width = bracket.high - bracket.low
    inside = bracket.above - bracket.below
    share = bracket.above / inside
    # Where the answer is expected if entries are spread evenly over the bracket, and its error by
    # chance, with a margin for an uneven spread.
    expected = share * width
    spread = jnp.maximum(width * (jnp.sqrt(share * (1 - share) / inside) + 1 / 1024), 1)
    around = expected + spread * jnp.array([-8, -1, 1, 8], jnp.float32)
    numbers = jnp.arange(1, PIVOTS + 1, dtype=jnp.int32)  # also with jax_enable_x64
    quarters = (width // 4) * numbers[:3] + numbers[:3]
    offsets = jnp.concatenate([jnp.minimum(around, 2.0**30).astype(jnp.int32), quarters])
    offsets = jnp.where(width <= PIVOTS + 1, numbers, offsets)
    return bracket.low + jnp.clip(offsets, 1, jnp.maximum(width - 1, 1))


@jit
def sample_pivots(sample: jax.Array, share: float) -> jax.Array:
    """Where to count first: quantiles of a sample around the quantile `share`: (p,)."""
    bits = jnp.sort(_bits(sample).reshape(-1))
    m = len(bits)
    deviations = jnp.array([-16, -4, -1, 0, 0, 4, 16], jnp.float32)
    at = m * share + jnp.sqrt(m * share * (1 - share)) * deviations
    quantiles = bits[jnp.clip(at.astype(jnp.int32), 0, m - 1)]
    # And one just above the middle pivot: it pins the answer where many entries are equal.
    return jnp.clip(quantiles.at[4].add(1), 1, _LARGEST)


def _whole(n: int, enough: int) -> Bracket:
    """The bracket from zero, which all entries reach, to infinity, which none reaches."""
    return Bracket(jnp.int32(0), jnp.int32(_LARGEST), jnp.float32(n - enough), jnp.float32(-enough))


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(jnp.abs(jnp.asarray(x, jnp.float32)), jnp.int32)


def excess(counts: list[jax.Array], enough: Enough) -> jax.Array:
    """The sum of int32 counts less a number: float32, rounded, its sign exact."""
    low = sum(count & 0xFFFF for count in counts) - enough.low
    high = sum(count >> 16 for count in counts) - enough.high
    high, low = high + (low >> 16), low & 0xFFFF
    return high * jnp.float32(1 << 16) + low


def _every(leaf: jax.Array, stride: int) -> jax.Array:
    """About one entry in `stride`, on a grid over the last two axes: flat float32.

    A stride along all its axes would need a sharded leaf to be gathered first.
    """
    if leaf.ndim == 0:
        return leaf.reshape(1).astype(jnp.float32)
    rows = 1
    if leaf.ndim > 1:
        rows = min(math.isqrt(stride), leaf.shape[-2])
        leaf = leaf[..., ::rows, :]
    return leaf[..., :: math.ceil(stride / rows)].reshape(-1).astype(jnp.float32)


@jit
def _narrowed_all(brackets: Bracket, pivots: jax.Array, more: jax.Array) -> Bracket:
    return jax.vmap(narrowed)(brackets, pivots, more)


@jit
def _next_pivots_all(brackets: Bracket) -> jax.Array:
    return jax.vmap(next_pivots)(brackets)

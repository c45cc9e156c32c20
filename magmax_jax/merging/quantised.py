"""Task vectors in 8, 4 or 3 bits per entry, after Kim et al., 2025 (arXiv 2503.06921).

A task vector spans a far narrower range than a model, so few bits suffice. The paper uses codes
with one scale per tensor, of the task vector itself or of its residual from a common base. Here
every 64 neighbours of a row have their own scale, and each such group is coded directly or as its
difference from the previous task, whichever has the smaller range: sequential training moves tau_t
little from tau_(t-1). The difference is taken from the decoded previous task, so that errors do not
accumulate.

`bits` names an accuracy: that of codes of this many bits with one scale per tensor. With a scale
per group, 7-bit codes match 8 bits, and take 7.25 bits per entry including scales: less than a
quarter of float32, also on disk, where float32 is compressed to 92 to 96 %.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.merging.alike import check_finite
from magmax_jax.merging.arrays import PyTree, is_merged

GROUP = 64
"""Approximate number of entries that share a scale; groups divide a row as evenly as possible."""
CODE_BITS = {8: 7, 4: 4, 3: 3}
"""Bits of a code, including its sign, by the `bits` of accuracy that users ask for."""


@partial(jax.tree_util.register_dataclass, data_fields=("data",), meta_fields=("shape", "bits"))
@dataclass(frozen=True)
class Quantised:
    """One tensor of a task vector. A pytree node of one array.

    Attributes:
      data: uint8, with as many axes as the tensor (one for a scalar), the last of n bytes: each
        row's codes, bit plane by bit plane, then its bfloat16 scales.
      shape: of the tensor.
      bits: of `CODE_BITS`.
    """

    data: jax.Array
    shape: tuple[int, ...]
    bits: int


def quantise(tau: PyTree, bits: int, base: PyTree | None = None) -> PyTree:
    """A task vector in few bits: `Quantised` for its float32 leaves; the others are unchanged.

    With L = 2^(b-1) - 1 for codes of b bits (63, 7 and 3), and s = max |x| / L of each group x,
    rounded to bfloat16:

        x^ = s clip(round(x / s), -L, L),    |x^ - x| <= s / 2

    up to the rounding of float32; groups below 1e-36 may become 0. Entries that no task changed
    stay 0 exactly. The bound is that of uniform quantisation, as in the paper; it survives the
    rounding of s, which moves x / s by at most L / 2^8 < 1/2 beyond L.

    Args:
      tau: a task vector.
      bits: 8, 4 or 3.
      base: the previous task vector as decoded by `dequantise`, which `dequantise` then needs too.
        Each group is coded directly, or as its difference from the base's if that is smaller.

    Raises:
      UserError: an entry is NaN or infinite; the leaves are named.

    >>> tau = {"w": jnp.array([[1.0, -0.5, 0.0]])}
    >>> [round(entry, 2) for entry in dequantise(quantise(tau, 8))["w"][0].tolist()]
    [1.0, -0.51, 0.0]
    """
    check_finite(tau)
    if base is None:
        base = jax.tree.map(lambda leaf: np.zeros((), np.float32), tau)
    return jax.tree.map(
        lambda leaf, base: (
            Quantised(_encode(leaf, base, CODE_BITS[bits]), leaf.shape, bits)
            if is_merged(leaf)
            else leaf
        ),
        tau,
        base,
    )


def dequantise(tree: PyTree, base: PyTree | None = None) -> PyTree:
    """The float32 task vector from `quantise`'s result; bit-identical on every backend.

    Args:
      base: the one given to `quantise`, if any.
    """
    if base is None:
        base = jax.tree.map(lambda leaf: np.zeros((), np.float32), tree, is_leaf=is_quantised)
    return jax.tree.map(
        lambda leaf, base: (
            _decode(leaf.data, base, leaf.shape, CODE_BITS[leaf.bits])
            if is_quantised(leaf)
            else leaf
        ),
        tree,
        base,
        is_leaf=is_quantised,
    )


def quantised_shapes(tau: PyTree, bits: int) -> PyTree:
    """`quantise` on shapes only."""
    return jax.eval_shape(partial(quantise, bits=bits), tau)


def is_quantised(leaf: Any) -> bool:
    return isinstance(leaf, Quantised)


def _groups(row: int) -> tuple[int, int]:
    """Number of groups in a row of `row` entries, and their length; the last may be shorter.

    >>> _groups(768), _groups(195), _groups(1)
    ((12, 64), (3, 65), (1, 1))
    """
    count = max(1, round(row / GROUP))
    return count, -(-row // count)


def _grouped(rows: jax.Array) -> jax.Array:
    """(..., row) as (..., groups, length), zero-padded at the end."""
    row = rows.shape[-1]
    count, length = _groups(row)
    padding = [(0, 0)] * (rows.ndim - 1) + [(0, count * length - row)]
    return jnp.pad(rows, padding).reshape(*rows.shape[:-1], count, length)


def _rows(grouped: jax.Array, row: int) -> jax.Array:
    """Inverse of `_grouped`."""
    return grouped.reshape(*grouped.shape[:-2], -1)[..., :row]


@partial(jax.jit, static_argnames="bits")
def _encode(x: jax.Array, base: jax.Array, bits: int) -> jax.Array:
    largest = 2 ** (bits - 1) - 1
    rows = jnp.atleast_1d(x)
    grouped, base = _grouped(rows), _grouped(jnp.broadcast_to(base, rows.shape))
    itself, change = (jnp.abs(v).max(axis=-1) for v in (grouped, grouped - base))
    differs = change < itself  # groups of zeros are coded as they are, so stay zeros
    scales = (jnp.where(differs, change, itself) / largest).astype(jnp.bfloat16)
    step = scales.astype(jnp.float32)[..., None]
    coded = grouped - jnp.where(differs[..., None], base, 0)
    codes = jnp.clip(jnp.round(coded / jnp.where(step == 0, 1, step)), -largest, largest)
    words = jnp.abs(codes).astype(jnp.uint8) | (codes < 0).astype(jnp.uint8) << (bits - 1)
    words = _rows(words, rows.shape[-1])[..., None, :]
    packed = jnp.packbits(words >> jnp.arange(bits, dtype=jnp.uint8)[:, None] & 1, axis=-1)
    # The sign of a scale, even of 0, encodes whether to add the base.
    signed = jax.lax.bitcast_convert_type(jnp.where(differs, -scales, scales), jnp.uint8)
    return jnp.concatenate([_joined(packed), _joined(signed)], axis=-1)


@partial(jax.jit, static_argnames=("shape", "bits"))
def _decode(data: jax.Array, base: jax.Array, shape: tuple[int, ...], bits: int) -> jax.Array:
    lead, row = data.shape[:-1], (shape or (1,))[-1]
    end = bits * -(-row // 8)
    planes = jnp.unpackbits(data[..., :end].reshape(*lead, bits, -1), axis=-1, count=row)
    words = jnp.sum(planes << jnp.arange(bits, dtype=jnp.uint8)[:, None], axis=-2, dtype=jnp.uint8)
    codes = (words & (2 ** (bits - 1) - 1)).astype(jnp.float32)
    codes = _grouped(jnp.where(words >> (bits - 1), -codes, codes))
    scales = jax.lax.bitcast_convert_type(data[..., end:].reshape(*lead, -1, 2), jnp.bfloat16)
    scales = scales.astype(jnp.float32)[..., None]
    base = _grouped(jnp.broadcast_to(base, (*lead, row)))
    grouped = jnp.where(jnp.signbit(scales), base, 0) + codes * jnp.abs(scales)
    return _rows(grouped, row).reshape(shape)


def _joined(parts: jax.Array) -> jax.Array:
    """(..., a, b) as (..., a b)."""
    return parts.reshape(*parts.shape[:-2], -1)

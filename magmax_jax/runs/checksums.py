"""Numbers by which a checkpoint shows that it is what was saved."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def digest_of(note: dict[str, Any]) -> str:
    """sha256 of a note as it is read back from JSON, which turns keys into strings."""
    note = json.loads(json.dumps(note))
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def checksums_of(tree: PyTree) -> list[int]:
    """A number for each leaf that changes when any bit of the leaf does.

    Computed one at a time: on CPUs, concurrent sums across several processes' devices can deadlock.
    """
    return [int(jax.device_get(_checksum(leaf))) for leaf in jax.tree.leaves(tree)]


@jax.jit
def _checksum(leaf: jax.Array) -> jax.Array:
    """sum_i (2 i + 1) bits_i modulo 2^32: uint32 scalar, the same however the leaf is sharded."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == bool:
        leaf = leaf.astype(jnp.uint8)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
    place = jnp.uint32(0)
    for axis, size in enumerate(leaf.shape):
        place = place * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)

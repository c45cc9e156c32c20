"""Whose memory an array is: a state's, a model's, or the caller's."""

from __future__ import annotations

from typing import Any

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.merging.arrays import PyTree, is_traced
from magmax_jax.packages.lazy_jax import jax, jnp

OURS = __name__.partition(".")[0] + "."
"""Rules of this package allocate every leaf of a first state."""


def own(state: PyTree, *others: PyTree) -> PyTree:
    """The state, with a copy of every leaf that shares memory with another leaf or with `others`.

    Raises:
      UserError: a leaf was already donated.
    """
    taken = {_memory(leaf) for leaf in jax.tree.leaves(others) if isinstance(leaf, jax.Array)}

    def owned(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        if leaf.is_deleted():
            raise UserError(
                "this state was already folded into, and the new state has its memory: continue "
                "with the state that `fold` returned, or fold into a copy of this one"
            )
        if _memory(leaf) in taken:
            leaf = jnp.copy(leaf)
        taken.add(_memory(leaf))
        return leaf

    return jax.tree.map(owned, state)


def first_state(init: Any, pretrained: PyTree) -> PyTree:
    """A rule's first state, copied for users' own rules, which may keep references to it."""
    state = init(pretrained)
    if getattr(init, "__module__", None) is not None and init.__module__.startswith(OURS):
        return state
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if isinstance(leaf, jax.Array) else leaf, state)


def read(result: PyTree, given: PyTree) -> PyTree:
    """The result, once the NumPy arrays that it was computed from have been read.

    JAX computes in the background, and on CPUs it reads an aligned NumPy array in place (jax 0.10.2
    and 0.12.0). Without waiting, a model that is loaded into the same arrays next, or is still
    being trained in them, would change what is being computed.
    """
    if is_traced(result) or not _host(given):
        return result
    return jax.block_until_ready(result)


def kept(state: PyTree, given: PyTree) -> PyTree:
    """The state, with a copy of every leaf that shares memory with a NumPy array of `given`.

    For states, which outlive the call that makes them; see `read`.
    """
    theirs = _host(given)
    if is_traced(state) or not theirs:
        return state
    shared = set(map(_memory, theirs))

    def copied(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray) or _memory(leaf) not in shared:
            return leaf
        return np.array(leaf) if isinstance(leaf, np.ndarray) else jnp.copy(leaf)

    return jax.tree.map(copied, state)


def _host(tree: PyTree) -> list[np.ndarray]:
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, np.ndarray)]


def _memory(leaf: jax.Array | np.ndarray) -> tuple[int, int]:
    """The address of the first shard: equal for arrays that share memory."""
    if isinstance(leaf, np.ndarray):
        return leaf.ctypes.data, 0
    try:
        return leaf.addressable_data(0).unsafe_buffer_pointer(), 0
    except Exception:  # random keys and some platforms have no address
        return id(leaf), 1

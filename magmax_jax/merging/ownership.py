"""Which buffers of a state may be donated to the program that computes the next state."""

from typing import Any

import jax
import jax.numpy as jnp

from magmax_jax.errors import UserError
from magmax_jax.merging.arrays import PyTree

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


def _memory(leaf: jax.Array) -> tuple[int, int]:
    """The address of the first shard: equal for arrays that share memory."""
    try:
        return leaf.addressable_data(0).unsafe_buffer_pointer(), 0
    except Exception:  # random keys and some platforms have no address
        return id(leaf), 1

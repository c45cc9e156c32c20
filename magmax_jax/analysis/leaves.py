"""The leaves that analyses use: the floating-point ones, by name."""

import jax
import jax.numpy as jnp

from magmax_jax.errors import UserError
from magmax_jax.merging.arrays import native
from magmax_jax.merging.rule import leaf_name
from magmax_jax.merging.task_vectors import PyTree, is_merged


def named_leaves(tree: PyTree, like: PyTree | None = None) -> dict[str, jax.Array]:
    """The floating-point leaves of any pytree by name, their paths joined by dots.

    Args:
      tree: any pytree.
      like: a pytree of the same structure whose leaves' dtypes decide instead.

    Raises:
      UserError: there are none, or two have the same name.

    >>> list(named_leaves({"block": {"kernel": jnp.ones(2)}, "step": jnp.int32(3)}))
    ['block.kernel']
    """
    leaves: dict[str, jax.Array] = {}
    deciding = jax.tree.leaves(tree if like is None else like)
    of_tree = jax.tree_util.tree_leaves_with_path(tree)
    for (path, leaf), decides in zip(of_tree, deciding, strict=True):
        if not is_merged(decides):
            continue
        name = leaf_name(path)
        if name in leaves:
            raise UserError(f"two leaves have the name {name!r}: rename one")
        leaves[name] = jnp.asarray(native(leaf))
    if not leaves:
        raise UserError("the pytree has no floating-point leaves: there is nothing to analyse")
    return leaves


def entries(leaves: dict[str, jax.Array]) -> int:
    """Total number of entries in the leaves."""
    return sum(leaf.size for leaf in leaves.values())

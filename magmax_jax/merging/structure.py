"""Compiled functions of pytrees whose containers need not be hashable."""

from typing import Any

import jax

from magmax_jax.merging.alike import same_structure
from magmax_jax.merging.arrays import PyTree


class Structure:
    """A pytree's containers as a static argument of `jax.jit`.

    `jit` hashes the static fields of the containers that it is given: an NNX module that holds a
    dict cannot be. Two of these are equal where JAX calls the containers equal, and where a field
    cannot be compared, they are not.
    """

    def __init__(self, tree: PyTree):
        self.treedef: Any = jax.tree.structure(tree)  # JAX ships no stubs of PyTreeDef

    def __hash__(self) -> int:
        return hash((self.treedef.num_leaves, self.treedef.num_nodes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and same_structure(self.treedef, other.treedef)

    def unflatten(self, leaves: Any) -> PyTree:
        """The pytree with these leaves, in the order of `jax.tree.leaves`."""
        return self.treedef.unflatten(leaves)

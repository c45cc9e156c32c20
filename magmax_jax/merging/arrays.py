"""Separates the arrays of a pytree from everything else in it.

Not all leaves of a model are arrays: Equinox keeps activation functions among them, others keep
strings. Arrays take part in a merge; the rest is copied from theta_0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from magmax_jax.packages.lazy_jax import jax, jnp

PyTree = Any


def is_array(leaf: Any) -> bool:
    """Whether a leaf is a JAX or NumPy array or a Python number; arrays of text do not count."""
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return True
    if not isinstance(leaf, np.ndarray | np.generic | bool | int | float | complex):
        return False
    dtype = np.asarray(leaf).dtype
    return bool(dtype == np.bool_ or jnp.issubdtype(dtype, np.number))


def is_merged(leaf: Any) -> bool:
    """Whether a leaf takes part in merging: floating-point arrays and Python floats do."""
    if not is_array(leaf):
        return False
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return bool(jnp.issubdtype(dtype, jnp.floating))


def is_wide(leaf: Any) -> bool:
    """Whether a leaf is a NumPy array more precise than float32.

    JAX would round it to float32 unless `jax_enable_x64` is set, so NumPy does the arithmetic.
    """
    return isinstance(leaf, np.ndarray) and leaf.dtype.type in (np.float64, np.longdouble)


def native(leaf: Any) -> Any:
    """A NumPy array in the machine's byte order, the only one that JAX takes; others unchanged."""
    if isinstance(leaf, np.ndarray) and not leaf.dtype.isnative:
        return leaf.astype(leaf.dtype.newbyteorder("="))
    return leaf


def is_traced(*trees: PyTree) -> bool:
    """Whether any leaf is a tracer, as inside `jit`, `vmap` and `grad`."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def arrays(tree: PyTree) -> PyTree:
    """The tree with only its arrays: Python numbers as NumPy arrays, all other leaves None.

    NumPy arrays come in the machine's byte order (`native`).
    """
    return jax.tree.map(_array, tree)


def with_arrays(tree: PyTree, new: PyTree) -> PyTree:
    """A copy of `tree` with new arrays of the same kinds as its own.

    Args:
      tree: any pytree. Non-arrays stay as they are, and so do Python numbers and NumPy arrays that
        are not merged.
      new: `arrays(tree)` with other values of the same shapes. For `is_wide` leaves the values are
        float32 changes to add.

    Returns:
      A pytree of `tree`'s structure and dtypes: NumPy arrays where it has NumPy arrays (read-only
      on CPU, where they share JAX's memory), Python floats where it has those. Traced values always
      stay JAX values.
    """
    leaves = jax.tree.leaves(tree)
    structure: Any = jax.tree.structure(tree)  # JAX ships no stubs of PyTreeDef
    values = iter(jax.tree.leaves(new))
    return structure.unflatten(
        _of_kind(leaf, next(values)) if is_array(leaf) else leaf for leaf in leaves
    )


def _array(leaf: Any) -> Any:
    if not is_array(leaf):
        return None
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return leaf
    return native(np.asarray(leaf))


def _of_kind(leaf: Any, value: Any) -> Any:
    array = _array(leaf)
    if isinstance(value, jax.core.Tracer):
        return jnp.asarray(array) + value if is_wide(array) else value
    if isinstance(leaf, jax.Array):
        return value
    if not is_merged(leaf):
        return np.array(leaf) if isinstance(leaf, np.ndarray) else leaf
    new = np.asarray(value)
    if is_wide(array):
        new = np.asarray(array + new, array.dtype)
    if isinstance(leaf, np.ndarray):
        return new if leaf.dtype.isnative else new.astype(leaf.dtype)
    return type(leaf)(new)

"""Task vectors: what fine-tuning changed, as pytrees.

Notation of the paper (Marczak et al., 2024, arXiv 2407.06322), used throughout this package:

    theta_0   the pretrained parameters
    theta_t   the parameters after task t
    tau_t     theta_t - theta_0, the task vector of task t        (Ilharco et al., arXiv 2212.04089)
    lambda    the scale: theta = theta_0 + lambda tau

A pytree may be a dict, an NNX module or state, a dataclass, or anything else `jax.tree` handles.
Floating-point arrays are subtracted, merged and added in float32; float64 arrays are subtracted and
added in float64, so that entries that no task changed keep all their digits. Integers, flags and
random keys come from theta_0, and so do non-arrays: functions, strings, static fields.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from magmax_jax.merging.alike import check_alike, check_finite, conform
from magmax_jax.merging.any_mesh import on_any_mesh
from magmax_jax.merging.arrays import PyTree, arrays, is_array, is_merged, is_wide, with_arrays
from magmax_jax.packages.lazy_jax import jax, jnp

__all__ = [
    "PyTree",
    "add",
    "apply_task_vector",
    "check_alike",
    "check_finite",
    "difference",
    "is_merged",
    "task_vector",
    "tree_bytes",
    "without_wide",
    "zeros",
]


@partial(on_any_mesh, like=1)
def task_vector(finetuned: PyTree, pretrained: PyTree) -> PyTree:
    """tau = theta_t - theta_0: float32 for floating-point leaves, int8 zeros for the others.

    May be jitted, mapped and differentiated.

    Args:
      finetuned: theta_t.
      pretrained: theta_0, a pytree with the same containers, shapes and dtypes.

    Returns:
      A pytree of theta_0's structure, with None for leaves that are not arrays.

    Raises:
      UserError: the two differ in containers, shapes or dtypes; the differing leaves are named.

    >>> task_vector({"w": jnp.array([2.0, 0.0])}, {"w": jnp.array([1.0, 1.0])})
    {'w': Array([ 1., -1.], dtype=float32)}
    """
    return difference(conform(finetuned, pretrained), arrays(pretrained))


@on_any_mesh
def apply_task_vector(pretrained: PyTree, tau: PyTree, scale: jax.typing.ArrayLike = 1.0) -> PyTree:
    """theta = theta_0 + scale tau, of theta_0's structure, dtypes and kinds of arrays.

    May be jitted, mapped and differentiated. `pretrained` is not changed.

    Args:
      pretrained: theta_0.
      tau: a task vector of theta_0's structure and shapes, of one task or of a merge.
      scale: lambda, a scalar; 0 returns theta_0.

    Returns:
      NumPy arrays where theta_0 has NumPy arrays, unless values are traced; otherwise JAX arrays.

    Raises:
      UserError: the two differ in containers or shapes; the differing leaves are named.
    """
    tau = conform(tau, pretrained, dtypes=False)
    return with_arrays(pretrained, add(without_wide(arrays(pretrained)), tau, scale))


def difference(finetuned: PyTree, pretrained: PyTree) -> PyTree:
    """`task_vector` of trees that hold only arrays and are known to match."""
    return jax.tree.map(_difference, finetuned, pretrained)


def add(pretrained: PyTree, tau: PyTree, scale: jax.typing.ArrayLike) -> PyTree:
    """`apply_task_vector` of trees that hold only arrays and are known to match."""
    return jax.tree.map(lambda theta, tau: _add(theta, tau, scale), pretrained, tau)


def without_wide(pretrained: PyTree) -> PyTree:
    """theta_0 with zeros for every `is_wide` leaf, to which `with_arrays` adds the change."""
    zero = np.float32(0)
    return jax.tree.map(
        lambda leaf: np.broadcast_to(zero, leaf.shape) if is_wide(leaf) else leaf, pretrained
    )


def zeros(pretrained: PyTree) -> PyTree:
    """The task vector of theta_0 itself."""
    return jax.tree.map(_zero, pretrained)


def tree_bytes(tree: PyTree) -> int:
    """Total bytes of all leaves, arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _zero(theta_0: jax.typing.ArrayLike) -> jax.Array | None:
    if not is_array(theta_0):
        return None
    return jnp.zeros_like(theta_0, jnp.float32 if is_merged(theta_0) else jnp.int8)


def _difference(theta: jax.typing.ArrayLike, theta_0: jax.typing.ArrayLike) -> jax.Array:
    if not is_merged(theta_0):
        return jnp.zeros(jnp.shape(theta_0), jnp.int8)
    if is_wide(theta_0) and not isinstance(theta, jax.core.Tracer):
        with np.errstate(over="ignore"):  # infinities are caught in the merged model
            return jnp.asarray(np.subtract(theta, theta_0, dtype=np.float64).astype(np.float32))
    dtype = _computed_in(theta_0)
    return (jnp.asarray(theta, dtype) - jnp.asarray(theta_0, dtype)).astype(jnp.float32)


def _add(
    theta_0: jax.typing.ArrayLike, tau: jax.Array, scale: jax.typing.ArrayLike
) -> jax.typing.ArrayLike:
    if not is_merged(theta_0):
        return theta_0
    theta_0 = jnp.asarray(theta_0)
    theta = (theta_0.astype(_computed_in(theta_0)) + scale * tau).astype(theta_0.dtype)
    # XLA flushes subnormal numbers, and -0.0 + 0 is 0: unchanged entries keep their bits.
    return jnp.where(tau == 0, theta_0, theta)


def _computed_in(theta_0: jax.typing.ArrayLike) -> jax.typing.DTypeLike:
    return jnp.float64 if jnp.result_type(theta_0) == jnp.float64 else jnp.float32

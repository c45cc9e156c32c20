"""Task vectors: what fine-tuning changed, as pytrees.

Notation of the paper (Marczak et al., 2024, arXiv 2407.06322), used throughout this package:

    theta_0   the pretrained parameters
    theta_t   the parameters after task t
    tau_t     theta_t - theta_0, the task vector of task t        (Ilharco et al., arXiv 2212.04089)
    lambda    the scale: theta = theta_0 + lambda tau

A pytree may be a dict, an NNX state, a dataclass, anything that `jax.tree` walks through.
Floating-point leaves are subtracted, merged and added in float32; all others (counters, ids) are
theta_0's.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from magmax_jax.errors import UserError
from magmax_jax.merging.any_mesh import jit_on_any_mesh, on_any_mesh

PyTree = Any


@partial(on_any_mesh, like=1)
def task_vector(finetuned: PyTree, pretrained: PyTree) -> PyTree:
    """tau = theta_t - theta_0, float32 for every floating-point leaf and int8 zeros for the others.

    Args:
      finetuned: theta_t.
      pretrained: theta_0, a pytree of the same structure, shapes and dtypes.

    Raises:
      UserError: the two differ in structure, shape or dtype; every differing leaf is named.

    >>> task_vector({"w": jnp.array([2.0, 0.0])}, {"w": jnp.array([1.0, 1.0])})
    {'w': Array([ 1., -1.], dtype=float32)}
    """
    check_alike(finetuned, pretrained)
    return jax.tree.map(_difference, finetuned, pretrained)


@on_any_mesh
def apply_task_vector(pretrained: PyTree, tau: PyTree, scale: jax.typing.ArrayLike = 1.0) -> PyTree:
    """theta = theta_0 + scale tau, in theta_0's dtypes.

    Args:
      pretrained: theta_0.
      tau: a task vector of theta_0's structure and shapes, of one task or of a merge.
      scale: lambda, a scalar; 0 gives theta_0 back.

    Raises:
      UserError: the two differ in structure or shape; every differing leaf is named.
    """
    check_alike(tau, pretrained, dtypes=False)
    return jax.tree.map(lambda theta, tau: _add(theta, tau, scale), pretrained, tau)


def zeros(pretrained: PyTree) -> PyTree:
    """The task vector of theta_0 itself."""
    return jax.tree.map(
        lambda theta: jnp.zeros_like(theta, jnp.float32 if is_merged(theta) else jnp.int8),
        pretrained,
    )


def is_merged(leaf: Any) -> bool:
    """Whether a leaf takes part in merging: floating-point ones do."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def check_alike(tree: PyTree, reference: PyTree, dtypes: bool = True) -> None:
    """Raises a UserError that names every leaf in which `tree` differs from `reference`."""
    ours, theirs = (
        {
            jax.tree_util.keystr(path): (jnp.shape(leaf), jnp.result_type(leaf).name)
            for path, leaf in leaves
        }
        for leaves, _ in map(jax.tree_util.tree_flatten_with_path, (tree, reference))
    )
    problems = [
        f"missing {path} {shape}" for path, (shape, _) in theirs.items() if path not in ours
    ]
    problems += [
        f"unexpected {path} {shape}" for path, (shape, _) in ours.items() if path not in theirs
    ]
    for path in (path for path in theirs if path in ours):
        (shape, dtype), (their_shape, their_dtype) = ours[path], theirs[path]
        if shape != their_shape:
            problems.append(f"{path} has shape {shape}, not {their_shape}")
        elif dtypes and dtype != their_dtype:
            problems.append(f"{path} has dtype {dtype}, not {their_dtype}")
    if problems:
        raise UserError(
            f"the two pytrees are not those of one model ({len(problems)} leaves differ):\n  "
            + "\n  ".join(problems)
        )
    found: object = jax.tree.structure(tree)  # JAX ships no stubs of PyTreeDef
    expected: object = jax.tree.structure(reference)
    if found != expected:
        raise UserError(f"the two pytrees differ in their containers: {found}, not {expected}")


def check_finite(tree: PyTree) -> None:
    """Raises a UserError that names every floating-point leaf with a NaN or an infinity in it."""
    finite = {
        jax.tree_util.keystr(path): _all_finite(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if is_merged(leaf)
    }
    if problems := [path for path, good in finite.items() if not good]:
        raise UserError(f"{len(problems)} leaves hold NaN or infinity:\n  " + "\n  ".join(problems))


@partial(jit_on_any_mesh, like=None)
def _all_finite(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()


def _difference(theta: jax.Array, theta_0: jax.Array) -> jax.Array:
    if not is_merged(theta_0):
        return jnp.zeros(jnp.shape(theta_0), jnp.int8)
    return jnp.asarray(theta, jnp.float32) - jnp.asarray(theta_0, jnp.float32)


def _add(theta_0: jax.Array, tau: jax.Array, scale: jax.typing.ArrayLike) -> jax.Array:
    if not is_merged(theta_0):
        return theta_0
    theta_0 = jnp.asarray(theta_0)
    return (theta_0.astype(jnp.float32) + scale * tau).astype(theta_0.dtype)


def tree_bytes(tree: PyTree) -> int:
    """Of all leaves, arrays or mere shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
